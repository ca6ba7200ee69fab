//! What a call that only validates warns of: it would be done, and is perhaps not meant.

use crate::driver::{Done, Subject};
use phasegate_api::{convert, v1};
use phasegate_engine::{
    environment::{named_once, of_spec, of_template},
    id::EnvironmentId,
};

/// The environments that the subject of a call names and one place alone does, as if the call were
/// done; not those that the server's settings name. Of a release: those of its change. Its pipeline
/// was warned of when it was written, and would be warned of again with every release.
pub(super) fn warnings(done: &Done, settings: &[EnvironmentId]) -> Vec<v1::PlanWarning> {
    let state = &done.state;
    let named: Vec<&EnvironmentId> = match &done.subject {
        Subject::Flag(id) => state.flag(id).into_iter().flat_map(|f| of_spec(&f.spec)).collect(),
        Subject::Pipeline(id) => {
            state.pipeline(id).into_iter().flat_map(|p| of_template(&p.template)).collect()
        }
        Subject::Release(id) => {
            let proposal = state.release(id).map(|release| &release.proposal);
            proposal.into_iter().flat_map(|proposal| of_spec(&proposal.change)).collect()
        }
    };
    let unset = named.into_iter().filter(|id| !settings.contains(id));
    convert::warnings_to_wire(&named_once(state, unset))
}
