//! Why a credential is not believed.

use std::time::Duration;

/// Why a credential is not believed. For the log: a client is told [`Unauthenticated::TEXT`] and
/// nothing else, so that it cannot find out which part of a forged credential is good already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come: `nbf`, or an `iat` in the future.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It was issued longer ago than its issuer's `max_age` allows.
    #[error("it is older than {0:?}")]
    TooOld(Duration),
    /// It was issued for somebody else.
    #[error("it was issued for another audience")]
    WrongAudience,
    /// Nobody has heard of who issued it.
    #[error("its issuer is not known")]
    WrongIssuer,
    /// The signature is not that of the key.
    #[error("its signature does not verify")]
    BadSignature,
    /// The issuer has no such key, as far as is known; the keys are fetched again behind.
    #[error("it is signed with a key that is not known")]
    UnknownKey,
    /// Signed in a way that this issuer is not to sign: `none`, a shared secret, or just another one.
    #[error("it is signed with an algorithm that is not allowed")]
    AlgorithmNotAllowed,
    /// It is no credential.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// It is longer than it is looked at.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// It does not say for whom it is.
    #[error("it has no subject")]
    NoSubject,
    /// It lacks a claim that every token has to have.
    #[error("it has no claim {0:?}")]
    MissingClaim(&'static str),
    /// The list has no such token: never had, or not any more.
    #[error("the token is not known")]
    UnknownToken,
    /// There is more than one `authorization` header.
    #[error("there is more than one credential")]
    SeveralCredentials,
    /// The certificate has no URI among its subject alternative names.
    #[error("the certificate has no URI among its names")]
    CertificateWithoutUri,
    /// More than one URI of the certificate could be meant.
    #[error("the certificate has more than one URI that could be meant")]
    CertificateWithSeveralUris,
    /// The URI of the certificate is not one that is let in.
    #[error("the certificate's URI is not let in")]
    CertificateNotLetIn,
    /// Certificates are not what this server goes by.
    #[error("client certificates are not asked for")]
    CertificatesNotUsed,
    /// It was not issued for this login.
    #[error("its nonce is not that of the login")]
    WrongNonce,
    /// The metadata that is believed on loopback makes no sense. Not a secret: the text may be told.
    #[error("metadata.{}: {}", .0[0].key, .0[0].problem)]
    Metadata(Vec<super::Malformed>),
}

impl Unauthenticated {
    /// What a client is told, whatever it is.
    pub const TEXT: &'static str = "the credentials are not valid";
}
