//! What a page needs besides itself, out of the program. The address of each has a hash of all, so
//! that browsers keep them for ever and a new program brings new ones.

use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use http::header;
use std::sync::LazyLock;

const ALL: [(&str, &str, &str); 3] = [
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
];

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = crc32fast::Hasher::new();
    for (_, _, text) in ALL {
        hasher.update(text.as_bytes());
    }
    format!("{:08x}", hasher.finalize())
});

/// Stands for what all of them are now.
pub(super) fn version() -> &'static str {
    &VERSION
}

/// Where one of them is.
pub(super) fn href(name: &str) -> String {
    format!("/assets/{name}?{}", version())
}

/// Serves one of them.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    match ALL.iter().find(|(ours, _, _)| *ours == name) {
        Some((_, media_type, text)) => {
            let cached = "public, max-age=31536000, immutable";
            ([(header::CONTENT_TYPE, *media_type), (header::CACHE_CONTROL, cached)], *text)
                .into_response()
        }
        None => super::refused::no_such_page().await.into_response(),
    }
}
