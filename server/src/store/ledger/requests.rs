//! Reading requests: one, to answer its repetition, and all of them.

use super::stored;
use crate::store::{
    Error, RequestCursor, RequestPlace, RequestRecord, RequestStretch,
    record::{
        StoredRequest, Unreadable, decode,
        key::{self, Key, Kind},
        packs, parts,
    },
    tree::{Direction, Tree},
};

/// Requests that are read at once, about: the writer does other things in between.
const REQUESTS_PER_STRETCH: usize = 256;

/// The request that stands here; none if another one does that looks like it.
pub(super) fn find<T: Tree>(tree: &T, place: RequestPlace) -> Result<Option<RequestRecord>, Error> {
    let at = place.key();
    let missing = || Unreadable::at(&at, "the request is missing");
    let found = match parts::get(tree, &at)? {
        Some(value) => read(tree, place, value.as_ref())?,
        None => match find_among_all(tree, place)? {
            Found::It(request) => Some(request),
            Found::Another => return Ok(None),
            Found::None => None,
        },
    };
    Ok(Some(found.ok_or_else(missing)?.record.into_owned()))
}

enum Found {
    It(StoredRequest<'static>),
    /// One that looks like it, and it nowhere.
    Another,
    None,
}

/// Looks for a request wherever it may lie: after a clock had gone back, versions before this one wrote packs
/// that lie over others.
fn find_among_all<T: Tree>(tree: &T, place: RequestPlace) -> Result<Found, Error> {
    let mut found = Found::None;
    for entry in parts::scan(tree, Kind::RequestAt.all(), Direction::Up) {
        let (key, value) = entry??;
        let Key::RequestAt(time, digest) = key else { continue };
        let at = RequestPlace { time, digest };
        if at == place {
            let request = read(tree, place, value.as_ref())?;
            return Ok(request.map_or(Found::None, Found::It));
        }
        if at.looks_like(&place) {
            found = Found::Another;
        }
    }
    Ok(found)
}

/// Reads what stands at a place: the request, or in a store of before version 3 nothing.
fn read<T: Tree>(
    tree: &T,
    place: RequestPlace,
    value: &[u8],
) -> Result<Option<StoredRequest<'static>>, Error> {
    if value.is_empty() {
        return apart(tree, place);
    }
    Ok(Some(decode(&place.key(), value)?))
}

/// The request of which there is nothing but its time at this place: it stands under its digest.
pub(super) fn apart<T: Tree>(
    tree: &T,
    place: RequestPlace,
) -> Result<Option<StoredRequest<'static>>, Error> {
    let request: Option<StoredRequest<'_>> = stored(tree, &Key::Request(place.digest))?;
    Ok(request.filter(|request| request.record.time == place.time))
}

/// Some of all requests: whole packs, as they stand.
pub(super) fn stretch<T: Tree>(
    tree: &T,
    after: Option<&RequestCursor>,
) -> Result<RequestStretch, Error> {
    let mut stretch = RequestStretch::default();
    let range = match after {
        Some(RequestCursor(first)) => key::after(first)..Kind::RequestAt.all().end,
        None => Kind::RequestAt.all(),
    };
    for pack in packs::whole(tree, range) {
        let (first, records) = pack?;
        for (key, value) in records {
            let Key::RequestAt(time, digest) = key else {
                return Err(Unreadable::at(&key, "stands in the middle of the requests").into());
            };
            if let Some(request) = read(tree, RequestPlace { time, digest }, value.as_ref())? {
                stretch.requests.push((request.key.into_owned(), request.record.into_owned()));
            }
        }
        if stretch.requests.len() >= REQUESTS_PER_STRETCH {
            stretch.end = Some(RequestCursor(first.bytes()));
            break;
        }
    }
    Ok(stretch)
}
