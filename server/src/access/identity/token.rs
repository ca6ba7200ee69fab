//! Static tokens: a list of hashes, and how a new one is made.

use super::{Identity, Kind, Unauthenticated, Vouched};
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use phasegate_engine::id::{Group, Principal};
use std::time::SystemTime;

/// What static tokens begin with: scanners of source code find lost ones by it.
pub(super) const PREFIX: &str = "pgt_";
/// What the principals of tokens begin with.
pub(super) const PRINCIPAL_PREFIX: &str = "token";
/// Random bytes of a fresh token.
const RANDOM_BYTES: usize = 32;

/// SHA-256 of a token. A fast hash is enough: a token is random, not chosen by a person.
pub(super) type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// One token of the list.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) kind: Kind,
    pub(super) groups: Vec<Group>,
    pub(super) expires: Option<SystemTime>,
}

/// A token that was just made.
pub struct Fresh {
    /// To be given to who calls, and to nobody else; it is shown once.
    pub token: String,
    /// SHA-256 of it in hexadecimal digits, for the list.
    pub sha256: String,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// Makes a token: 32 bytes of the operating system's randomness.
///
/// # Errors
///
/// If the system has no randomness to give.
pub fn fresh() -> std::io::Result<Fresh> {
    let mut bytes = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
    let token = format!("{PREFIX}{}", hexadecimal(&bytes));
    let sha256 = hexadecimal(&digest(&token));
    Ok(Fresh { token, sha256 })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn digest(token: &str) -> Digest {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

/// Whose token it is. Takes as long for a token that is there as for one that is not.
pub(super) fn find(
    tokens: &[Token],
    bearer: &str,
    now: SystemTime,
) -> Result<Identity, Unauthenticated> {
    let digest = digest(bearer);
    let mut found = None;
    for token in tokens {
        if verify_slices_are_equal(&token.digest, &digest).is_ok() {
            found = Some(token);
        }
    }
    let token = found.ok_or(Unauthenticated::UnknownToken)?;
    if token.expires.is_some_and(|end| end <= now) {
        return Err(Unauthenticated::Expired);
    }
    Ok(Identity {
        principal: Principal::new(format!("{PRINCIPAL_PREFIX}:{}", token.name)),
        name: None,
        groups: token.groups.clone(),
        kind: token.kind,
        until: token.expires,
        vouched: Vouched::Token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn token(name: &str, text: &str, expires: Option<u64>) -> Token {
        let expires = expires.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        let (digest, groups) = (digest(text), vec![Group::new("ci")]);
        Token { name: name.to_owned(), digest, kind: Kind::Service, groups, expires }
    }

    fn check(tokens: &[Token], text: &str, now: u64) -> Result<String, Unauthenticated> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        find(tokens, text, now).map(|identity| identity.principal.to_string())
    }

    #[test]
    fn a_static_token_has_a_name_and_an_end() {
        let tokens = [token("deploy", "pgt_a", None), token("old", "pgt_b", Some(100))];
        assert_eq!(check(&tokens, "pgt_a", 1), Ok("token:deploy".to_owned()));
        assert_eq!(check(&tokens, "pgt_b", 99), Ok("token:old".to_owned()));
    }

    #[test]
    fn an_unknown_static_token_is_refused() {
        let tokens = [token("deploy", "pgt_a", None)];
        for bad in ["pgt_b", "", "pgt_", "pgt_a ", "PGT_A", &tokens[0].name] {
            assert_eq!(check(&tokens, bad, 1), Err(Unauthenticated::UnknownToken), "{bad}");
        }
        let of_itself = hexadecimal(&tokens[0].digest);
        assert_eq!(check(&tokens, &of_itself, 1), Err(Unauthenticated::UnknownToken));
    }

    #[test]
    fn an_expired_static_token_is_refused() {
        let tokens = [token("old", "pgt_b", Some(100))];
        assert_eq!(check(&tokens, "pgt_b", 100), Err(Unauthenticated::Expired));
    }

    #[test]
    fn fresh_tokens_differ_and_are_found_by_their_hash() {
        let (one, two) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one.token, two.token);
        assert_eq!(one.token.len(), PREFIX.len() + 2 * RANDOM_BYTES);
        assert_eq!(one.sha256, hexadecimal(&digest(&one.token)));
        assert!(!format!("{one:?}").contains(&one.token));
    }
}
