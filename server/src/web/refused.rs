//! Pages that say no, and the one table from the API's codes to HTTP's.

use super::page::{Chrome, document};
use crate::access;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::{Markup, html};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A page that says no.
pub(super) fn page(status: StatusCode, title: &str, text: &str) -> impl IntoResponse + use<> {
    let body = html! {
        section.notice.refusal role="alert" {
            h1 { (title) }
            p { (text) }
            p { a href="/releases" { "To the releases" } }
        }
    };
    (status, Html(document(title, &Chrome::Bare, &body).into_string()))
}

/// An answer of the API that is no, as a page.
pub(super) fn of_api(refused: &Status) -> Response {
    let body = html! {
        section.notice.refusal {
            h1 { (title(refused.code())) }
            (words(refused))
            p { a href="/releases" { "To the releases" } }
        }
    };
    let page = document(title(refused.code()), &Chrome::Bare, &body);
    (code(refused.code()), Html(page.into_string())).into_response()
}

/// The gate does not let somebody in.
pub(super) fn at_the_gate(refusal: &access::Refusal) -> Response {
    if refusal.is_about_who() {
        let answer = page(StatusCode::UNAUTHORIZED, "Sign in", &format!("{refusal}."));
        let mut answer = answer.into_response();
        let bearer = HeaderValue::from_static("Bearer");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        return answer;
    }
    let status = match refusal {
        access::Refusal::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        access::Refusal::NoCredential
        | access::Refusal::BadCredential
        | access::Refusal::Ended
        | access::Refusal::Malformed(_)
        | access::Refusal::Missing(_)
        | access::Refusal::NoRule => StatusCode::FORBIDDEN,
    };
    page(status, "Refused", &format!("{refusal}.")).into_response()
}

/// Nothing is served under this path.
pub(super) async fn no_such_page() -> impl IntoResponse {
    page(
        StatusCode::NOT_FOUND,
        "Not found",
        "There is no such page. Programs call this port by gRPC, over HTTP/2.",
    )
}

/// The path is served, but not for this method.
pub(super) async fn no_such_method() -> impl IntoResponse {
    page(StatusCode::METHOD_NOT_ALLOWED, "Not allowed", "This page can only be looked at.")
}

/// A refusal in words, with every field that is wrong.
pub(super) fn words(refused: &Status) -> Markup {
    let details = refused.get_error_details();
    let violations = details.bad_request().map(|bad| &*bad.field_violations).unwrap_or_default();
    html! {
        div.refusal role="alert" {
            p { strong { "Refused. " } (refused.message()) }
            @if !violations.is_empty() {
                ul { @for wrong in violations {
                    li { code { (wrong.field) } ": " (wrong.description) }
                } }
            }
        }
    }
}

/// The HTTP status for a code of the API.
pub(super) fn code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn title(code: Code) -> &'static str {
    match self::code(code) {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::SERVICE_UNAVAILABLE => "Not available",
        _ => "Refused",
    }
}
