//! Names of resources, as a person types them: `flags/checkout` or, where only a flag can be meant,
//! `checkout`.

/// A resource that has calls of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Flag(String),
    Pipeline(String),
    Release(String),
}

/// Reads `flags/F`, `pipelines/P` or `releases/R`.
pub(crate) fn any(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        Some(("flags", _)) => Ok(Name::Flag(text.to_owned())),
        Some(("pipelines", _)) => Ok(Name::Pipeline(text.to_owned())),
        Some(("releases", _)) => Ok(Name::Release(text.to_owned())),
        Some(_) | None => Err("write flags/NAME, pipelines/NAME or releases/NAME".to_owned()),
    }
}

/// Reads `flags/F` or `F`.
pub(crate) fn flag(text: &str) -> Result<String, String> {
    within("flags", text)
}

/// Reads `pipelines/P` or `P`.
pub(crate) fn pipeline(text: &str) -> Result<String, String> {
    within("pipelines", text)
}

/// Reads `releases/R` or `R`.
pub(crate) fn release(text: &str) -> Result<String, String> {
    within("releases", text)
}

fn within(collection: &str, text: &str) -> Result<String, String> {
    match text.split_once('/') {
        None => Ok(format!("{collection}/{text}")),
        Some((found, _)) if found == collection => Ok(text.to_owned()),
        Some((found, _)) => Err(format!("expected a name in {collection}/, not in {found}/")),
    }
}

/// `flags/checkout` without its collection.
pub(crate) fn id(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_leave_its_collection_out_where_only_one_can_be_meant() {
        assert_eq!(flag("checkout"), Ok("flags/checkout".to_owned()));
        assert_eq!(flag("flags/checkout"), Ok("flags/checkout".to_owned()));
        assert!(flag("pipelines/checkout").is_err());
        assert_eq!(any("pipelines/p"), Ok(Name::Pipeline("pipelines/p".to_owned())));
        assert!(any("checkout").is_err());
        assert_eq!(id("releases/r-1"), "r-1");
    }
}
