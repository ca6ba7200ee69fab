//! Logging in at an issuer: the authorization code flow of OpenID Connect Core 1.0 (section 3.1) with
//! PKCE (RFC 7636, S256), a state and a nonce.
//!
//! What is deliberately absent: whose browser it is. `web` ties what was begun to a cookie.

use super::{Authenticator, FetchError, Identity, Unauthenticated, jwt};
use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Uri, header};
use std::fmt;

/// How people log in with an issuer.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: Option<String>,
    pub(super) scopes: Vec<String>,
    /// Where the page is, as browsers see it, without a path.
    pub(super) public_url: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("scopes", &self.scopes)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

impl Client {
    fn redirect(&self) -> String {
        format!("{}/login/callback", self.public_url)
    }

    /// The form that turns a code into a token (RFC 6749, section 4.1.3, and RFC 7636, section 4.5).
    fn exchange(&self, code: &str, verifier: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.redirect())
            .append_pair("client_id", &self.id)
            .append_pair("code_verifier", verifier);
        if let Some(secret) = &self.secret {
            form.append_pair("client_secret", secret);
        }
        form.finish()
    }
}

/// Where an issuer logs people in.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) authorization: Uri,
    pub(super) token: Uri,
    pub(super) has_pkce: bool,
}

/// A login that has begun.
pub struct Begun {
    /// The issuer, by its name.
    pub issuer: String,
    /// The issuer, as it calls itself.
    pub issuer_id: String,
    /// Where the browser goes.
    pub location: String,
    /// What it has to bring back.
    pub state: String,
    nonce: String,
    verifier: String,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody logs in with such an issuer.
    #[error("there is no login with this issuer")]
    UnknownIssuer,
    /// Where it logs people in is not known: it could not be reached yet.
    #[error("the issuer could not be reached yet")]
    NotReached,
    /// A code that is stolen on its way could be used by the thief.
    #[error("the issuer has no PKCE with S256")]
    NoPkce,
    /// The system has no randomness to give.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The issuer did not give a token for the code.
    #[error("the issuer gives no token for the code: {0}")]
    Exchange(#[from] FetchError),
    /// What it gave is not believed.
    #[error("the token of the issuer is not believed: {0}")]
    Token(#[from] Unauthenticated),
}

/// A number that nobody guesses: 256 bits, as text for addresses and cookies.
///
/// # Errors
///
/// If the system has no randomness to give.
pub fn unguessable() -> Result<String, LoginError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| LoginError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The challenge of a verifier (RFC 7636, section 4.2).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

impl Authenticator {
    /// The names of the issuers that people log in with.
    pub fn logins(&self) -> Vec<String> {
        let known = self.known();
        let issuers = known.issuers.iter().filter(|issuer| issuer.rules.login.is_some());
        issuers.map(|issuer| issuer.rules.name.clone()).collect()
    }

    /// Where the page is, as the logins have it: `https://HOST`, perhaps with a port.
    pub fn public_urls(&self) -> Vec<String> {
        let known = self.known();
        let logins = known.issuers.iter().filter_map(|issuer| issuer.rules.login.as_ref());
        logins.map(|login| login.public_url.clone()).collect()
    }

    /// Begins a login.
    ///
    /// # Errors
    ///
    /// If there is no such issuer, or nothing is known of it yet.
    pub fn begin_login(&self, issuer: &str) -> Result<Begun, LoginError> {
        let known = self.known();
        let found = known.issuers.iter().find(|known| known.rules.name == issuer);
        let issuer = found.ok_or(LoginError::UnknownIssuer)?;
        let client = issuer.rules.login.as_ref().ok_or(LoginError::UnknownIssuer)?;
        let endpoints = issuer.keys.endpoints().ok_or(LoginError::NotReached)?;
        if !endpoints.has_pkce {
            return Err(LoginError::NoPkce);
        }
        let (state, nonce, verifier) = (unguessable()?, unguessable()?, unguessable()?);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", &client.redirect())
            .append_pair("scope", &client.scopes.join(" "))
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge(&verifier))
            .append_pair("code_challenge_method", "S256")
            .finish();
        let address = endpoints.authorization;
        let join = if address.query().is_some() { '&' } else { '?' };
        let location = format!("{address}{join}{query}");
        let (name, issuer_id) = (issuer.rules.name.clone(), issuer.rules.issuer.clone());
        Ok(Begun { issuer: name, issuer_id, location, state, nonce, verifier })
    }

    /// Ends a login: exchanges the code for an ID token, and verifies that exactly as any other token,
    /// but for this client and this login.
    ///
    /// # Errors
    ///
    /// If the issuer gives no token, or one that is not believed.
    pub async fn finish_login(&self, begun: &Begun, code: &str) -> Result<Identity, LoginError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            id_token: String,
        }
        let known = self.known();
        let found = known.issuers.iter().find(|known| known.rules.name == begun.issuer);
        let issuer = found.ok_or(LoginError::UnknownIssuer)?;
        let client = issuer.rules.login.as_ref().ok_or(LoginError::UnknownIssuer)?;
        let endpoints = issuer.keys.endpoints().ok_or(LoginError::NotReached)?;
        let request = Request::post(endpoints.token)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(client.exchange(code, &begun.verifier))
            .map_err(|error| FetchError::Answer(error.to_string()))?;
        let answer = issuer.fetch.send(request).await?;
        // Not the reason: it could cite the answer.
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| FetchError::Answer("there is no id_token".to_owned()))?;
        let used = jwt::Use::Login { client: &client.id, nonce: &begun.nonce };
        Ok(jwt::verify(&issuer.rules, &issuer.keys, &answer.id_token, used, self.now())?)
    }

    /// Whether a login with this issuer would still be possible: what a session goes by after the
    /// settings have changed.
    pub fn logs_in(&self, issuer: &str) -> bool {
        self.logins().iter().any(|name| name == issuer)
    }
}
