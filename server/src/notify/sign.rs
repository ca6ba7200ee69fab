//! Signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 over `id.timestamp.body`, in Base64,
//! behind `v1,`; one for each key, so that a key can be replaced without a gap.

use super::secret::Secret;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

/// What every key begins with.
const PREFIX: &str = "whsec_";
/// Shortest and longest key, in bytes: 192 and 512 bits, as the specification has it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Keys that a webhook is signed with.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<hmac::Key>);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidKey {
    /// It does not begin as one.
    #[error("must begin with {PREFIX}")]
    Prefix,
    /// It is no Base64.
    #[error("must be Base64 behind {PREFIX}")]
    Base64,
    /// It is too short or too long.
    #[error("must have 24 to 64 bytes, and has {0}")]
    Length(usize),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Adds one, as its file has it.
    pub(super) fn add(&mut self, secret: &Secret) -> Result<(), InvalidKey> {
        let encoded = secret.expose().strip_prefix(PREFIX).ok_or(InvalidKey::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidKey::Base64)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(InvalidKey::Length(bytes.len()));
        }
        self.0.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        Ok(())
    }

    /// True if nothing is signed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds since 1970.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let signatures = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(head.as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> Result<Keys, InvalidKey> {
        let mut keys = Keys::default();
        texts.iter().try_for_each(|text| keys.add(&Secret::new(*text)))?;
        Ok(keys)
    }

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    /// Made with Python's hmac module and this key, not with our own code.
    #[test]
    fn a_signature_is_the_one_that_other_implementations_make() {
        let keys = keys(&[ONE]).unwrap();
        let signature =
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_key_signs_so_that_one_can_be_replaced() {
        let both = keys(&[ONE, OTHER]).unwrap().sign("a", 1, b"{}");
        let one = keys(&[ONE]).unwrap().sign("a", 1, b"{}");
        let other = keys(&[OTHER]).unwrap().sign("a", 1, b"{}");
        assert_eq!(both, format!("{one} {other}"));
        assert_ne!(one, other);
    }

    #[test]
    fn what_is_no_key_is_refused_and_keys_are_not_printed() {
        for (text, expected) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", InvalidKey::Prefix),
            ("whsec_%%", InvalidKey::Base64),
            ("whsec_", InvalidKey::Length(0)),
            ("whsec_AAECAwQFBgc=", InvalidKey::Length(8)),
        ] {
            assert_eq!(keys(&[text]).map(|_| ()), Err(expected), "{text}");
        }
        assert_eq!(format!("{:?}", keys(&[ONE]).unwrap()), "Keys(1)");
    }
}
