//! `phasegate.rehearsal.v1.ClockService`: moves the clock of a rehearsal.

use super::{Api, status};
use phasegate_api::{
    convert::{self, Violation},
    rehearsal::{
        AdvanceRequest, AdvanceResponse, GetRequest, GetResponse,
        clock_service_server::ClockService,
    },
};
use phasegate_engine::time::Span;
use tonic::{Request, Response, Status};

/// The longest move at once, ten years and some: longer than anything a release waits for.
const ADVANCE_DAYS_MAX: i64 = 3660;

#[tonic::async_trait]
impl ClockService for Api {
    async fn advance(
        &self,
        request: Request<AdvanceRequest>,
    ) -> Result<Response<AdvanceResponse>, Status> {
        let driver = self.driver()?;
        let by = span(request.get_ref().duration.as_ref()).map_err(|v| status::invalid(vec![v]))?;
        // The service is offered only with a clock that can be moved.
        let moved = driver.advance(by).await.ok_or_else(|| Status::unimplemented(""))?;
        let now = convert::timestamp_to_wire(moved.map_err(status::failed)?);
        Ok(Response::new(AdvanceResponse { now: Some(now) }))
    }

    async fn get(&self, _request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let now = convert::timestamp_to_wire(self.driver()?.now());
        Ok(Response::new(GetResponse { now: Some(now) }))
    }
}

/// Rounded up to the millisecond, as all durations are.
fn span(duration: Option<&prost_types::Duration>) -> Result<Span, Violation> {
    let range = format!("must be above 0 s and at most {ADVANCE_DAYS_MAX} days");
    let violation = || Violation { field: "duration".to_owned(), description: range };
    let millis = duration.and_then(|duration| {
        let nanos = i64::from(duration.nanos);
        let sign_fits = (duration.seconds >= 0) && (0..1_000_000_000).contains(&nanos);
        let millis =
            duration.seconds.checked_mul(1000)?.checked_add((nanos + 999_999) / 1_000_000)?;
        let fits = 0 < millis && millis <= ADVANCE_DAYS_MAX * Span::DAY.as_millis();
        (sign_fits && fits).then_some(millis)
    });
    millis.map(Span::from_millis).ok_or_else(violation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, nanos: i32) -> Option<i64> {
        let duration = prost_types::Duration { seconds, nanos };
        span(Some(&duration)).ok().map(Span::as_millis)
    }

    #[test]
    fn a_move_is_rounded_up_and_has_limits() {
        assert_eq!(check(7200, 0), Some(7_200_000));
        assert_eq!(check(0, 1), Some(1));
        assert_eq!(check(1, 1_000_001), Some(1002));
        assert_eq!(check(3660 * 86_400, 0), Some(3660 * 86_400_000));
        for (seconds, nanos) in [
            (0, 0),
            (-1, 0),
            (0, -1),
            (1, -1),
            (1, 1_000_000_000),
            (3660 * 86_400, 1),
            (i64::MAX, 0),
        ] {
            assert_eq!(check(seconds, nanos), None, "{seconds} {nanos}");
        }
        assert!(span(None).is_err());
    }
}
