//! `NotificationService`.

use super::{Api, status, submit::note_act};
use crate::{
    driver::{OutboxKey, OutboxRow, OutboxState},
    notify::{Notifier, Outcome, SinkReport, Standing, TestReport, Which},
};
use phasegate_api::{
    convert::{self, DeadLetters, timestamp_to_wire},
    v1::{
        self, ListDeadLettersRequest, ListDeadLettersResponse, ListSinksRequest, ListSinksResponse,
        ReplayDeadLettersRequest, ReplayDeadLettersResponse, SendTestNotificationRequest,
        SendTestNotificationResponse, SinkState, notification_service_server::NotificationService,
        send_test_notification_response::Step,
    },
};
use phasegate_engine::id::SinkId;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl NotificationService for Api {
    async fn list_sinks(
        &self,
        _: Request<ListSinksRequest>,
    ) -> Result<Response<ListSinksResponse>, Status> {
        self.driver()?;
        let sinks = self.notifier().map(Notifier::sinks).unwrap_or_default();
        let sinks = sinks.into_iter().map(sink_to_wire).collect();
        Ok(Response::new(ListSinksResponse { sinks }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        self.driver()?;
        let list = convert::list_dead_letters(request.into_inner()).map_err(status::rejected)?;
        let (sink, size, after) = (&list.sink, list.page.size, list.page.after.unwrap_or(0));
        let notifier = self.notifier().ok_or_else(|| no_sink(sink))?;
        // One more than is shown, to know whether there is another page.
        let mut found = notifier.dead(sink, after, size + 1).ok_or_else(|| no_sink(sink))?;
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| more).map(|(key, _)| list.token(key.sequence));
        let next_page_token = last.unwrap_or_default();
        let dead_letters = found.iter().map(dead_letter).collect();
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<ReplayDeadLettersResponse>, Status> {
        self.driver()?;
        let asked = convert::replay_dead_letters(request.get_ref().clone());
        let (sink, which) = asked.map_err(status::rejected)?;
        note_act(self, &request, "ReplayDeadLetters", format!("sinks/{sink}"))?;
        let which = match which {
            DeadLetters::All => Which::All,
            DeadLetters::Ids(ids) => Which::Ids(ids),
        };
        let notifier = self.notifier().ok_or_else(|| no_sink(&sink))?;
        let replayed = notifier.replay(&sink, &which).await.map_err(status::failed)?;
        let replayed = count(replayed.ok_or_else(|| no_sink(&sink))?);
        Ok(Response::new(ReplayDeadLettersResponse { replayed }))
    }

    async fn send_test_notification(
        &self,
        request: Request<SendTestNotificationRequest>,
    ) -> Result<Response<SendTestNotificationResponse>, Status> {
        self.driver()?;
        let asked = convert::send_test_notification(request.get_ref().clone());
        let sink = asked.map_err(status::rejected)?;
        note_act(self, &request, "SendTestNotification", format!("sinks/{sink}"))?;
        let notifier = self.notifier().ok_or_else(|| no_sink(&sink))?;
        let report = notifier.test(&sink).await.ok_or_else(|| no_sink(&sink))?;
        Ok(Response::new(report_to_wire(report)))
    }
}

fn no_sink(sink: &SinkId) -> Status {
    status::no_such("sinks", sink.as_str(), format!("there is no sink {sink}"))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn counted(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn sink_to_wire(report: SinkReport) -> v1::Sink {
    let (state, paused_until) = match report.standing {
        None => (SinkState::Unknown, None),
        Some(Standing::Open) => (SinkState::Open, None),
        Some(Standing::Paused(until)) => (SinkState::Paused, Some(until)),
        Some(Standing::Gone) => (SinkState::Gone, None),
    };
    v1::Sink {
        id: report.id.to_string(),
        channel: report.channel.to_owned(),
        address: report.shown,
        state: state.into(),
        paused_until: paused_until.map(timestamp_to_wire),
        pending: count(report.pending),
        dead: count(report.dead),
        last_error: report.last_error.to_string(),
        next_attempt_time: report.next_at.map(timestamp_to_wire),
        delivered: counted(report.counts.delivered),
        failed: counted(report.counts.failed),
    }
}

fn dead_letter((_, row): &(OutboxKey, std::sync::Arc<OutboxRow>)) -> v1::DeadLetter {
    let notification = &row.notification;
    let given_up = match row.state {
        OutboxState::Dead(at) => Some(timestamp_to_wire(at)),
        OutboxState::Pending => None,
    };
    v1::DeadLetter {
        id: notification.id.to_string(),
        r#type: notification.kind.name().to_owned(),
        time: Some(timestamp_to_wire(notification.time)),
        release: notification
            .release
            .as_ref()
            .map(|id| format!("releases/{id}"))
            .unwrap_or_default(),
        flag: notification.flag.as_ref().map(|id| format!("flags/{id}")).unwrap_or_default(),
        phase_id: notification.phase.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempts: i32::try_from(row.attempts).unwrap_or(i32::MAX),
        last_error: row.last_error.to_string(),
        given_up_time: given_up,
    }
}

fn report_to_wire(report: TestReport) -> SendTestNotificationResponse {
    let steps = report.steps.into_iter().map(|step| {
        // A step ends within the time of an attempt.
        let seconds = i64::try_from(step.took.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(step.took.subsec_nanos()).unwrap_or_default();
        let took = Some(prost_types::Duration { seconds, nanos });
        Step { description: step.what, took }
    });
    let (delivered, error) = match report.outcome {
        Outcome::Delivered => (true, String::new()),
        Outcome::Failed(fault) => (false, fault.text),
    };
    SendTestNotificationResponse { steps: steps.collect(), delivered, error }
}
