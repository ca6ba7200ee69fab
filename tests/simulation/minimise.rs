//! Cutting a list of operations down to what a failure needs (delta debugging, Zeller and Hildebrandt
//! 2002): leave a stretch out, run again, keep the shorter list if it still fails.

/// Trials at most: some seconds of work for a list of a few hundred.
const TRIALS: usize = 4_000;

/// A short list for which `fails` still holds; it holds for the one that is given.
pub(crate) fn minimise<T: Clone>(list: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut list = list.to_vec();
    let mut trials = 0;
    let mut stretch = list.len().div_ceil(2);
    while stretch > 0 && !list.is_empty() {
        let mut start = 0;
        let mut shrunk = false;
        while start < list.len() && trials < TRIALS {
            let end = (start + stretch).min(list.len());
            let shorter: Vec<T> = list[..start].iter().chain(&list[end..]).cloned().collect();
            trials += 1;
            if fails(&shorter) {
                list = shorter;
                shrunk = true;
            } else {
                start = end;
            }
        }
        if trials >= TRIALS {
            break;
        }
        if stretch > 1 {
            stretch /= 2;
        } else if !shrunk {
            break;
        }
    }
    list
}

#[test]
fn what_is_left_of_a_list_is_what_the_failure_needs() {
    let list: Vec<u32> = (0..200).collect();
    let needs = |list: &[u32]| list.contains(&17) && list.contains(&42) && list.contains(&190);
    assert_eq!(minimise(&list, needs), [17, 42, 190]);
}
