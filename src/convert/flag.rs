//! Flags: their specs, and the requests of `FlagService`.

use super::{
    Parsed, Rejected,
    fields::{Fields, TEXT_MAX, all_or_nothing, etag, expected, revision_to_wire},
    mask::Mask,
    targeting::rule_to_wire,
    timestamp_to_wire,
    value::{json_bytes_of, object_to_wire},
};
use crate::v1;
use phasegate_engine::{
    command::{Action, FlagChange, SwitchTo},
    flag::{Flag, Rule, Rules, Spec},
    id::{EnvironmentId, FlagId, PipelineId, ReleaseId},
    targeting::TargetingRule,
    value::Object,
};
use std::sync::Arc;

/// The most rules of a spec.
const RULES_MAX: usize = 100;
/// The most bytes of one value of a config, as JSON.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The most bytes of all values of a config, as JSON.
const CONFIG_BYTES_MAX: usize = 512 << 10;
/// The most bytes of a context, as JSON.
const CONTEXT_BYTES_MAX: usize = 64 << 10;

/// What is wrong with a flag or a release that has neither kind of spec.
pub(super) const NO_SPEC: &str = "must have feature_gate or dynamic_config";

/// What an evaluation asks.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateFlag {
    /// The flag.
    pub flag: FlagId,
    /// The environment that asks.
    pub environment: EnvironmentId,
    /// Attributes of the context, by top-level key.
    pub attributes: Object,
}

/// `flags/{flag}` in a field of this name.
pub fn flag_name(field: &str, text: &str) -> Result<FlagId, Rejected> {
    let mut fields = Fields::default();
    let id = fields.name(field, "flags", text, FlagId::parse);
    fields.finish(id)
}

/// Parses CreateFlag.
pub fn create_flag(request: v1::CreateFlagRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let request_id = fields.request_id(request.request_id);
    let id = fields.id("flag_id", &request.flag_id, FlagId::parse);
    let flag = fields.required("flag", request.flag).map(|flag| {
        fields.at("flag", |fields| {
            fields.own_name("flags", &flag.name, Some(&request.flag_id));
            let description = fields.text("description", flag.description, TEXT_MAX);
            let spec = match flag.spec {
                Some(spec) => fields.flag_spec(spec),
                None => fields.refuse(NO_SPEC),
            };
            let pipeline = fields.optional_pipeline(&flag.pipeline);
            (description, spec, pipeline, fields.labels(flag.labels))
        })
    });
    let parsed = (|| {
        let (description, spec, pipeline, labels) = flag?;
        let action = Action::CreateFlag {
            flag: id?,
            description: description?,
            spec: spec?,
            pipeline: pipeline?,
            labels: labels?,
        };
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

/// Parses UpdateFlag.
pub fn update_flag(request: v1::UpdateFlagRequest) -> Result<Parsed, Rejected> {
    const MASKABLE: &[&str] =
        &["description", "feature_gate", "dynamic_config", "pipeline", "labels"];
    let mut fields = Fields::default();
    let request_id = fields.request_id(request.request_id);
    let mask = fields.mask(request.update_mask, MASKABLE);
    let flag = fields.required("flag", request.flag).map(|flag| {
        fields.at("flag", |fields| {
            let id = fields.name("name", "flags", &flag.name, FlagId::parse);
            let expected = expected(&flag.etag);
            (id, fields.flag_change(&mask, flag), expected)
        })
    });
    let parsed = (|| {
        let (flag, change, expected) = flag?;
        let action = Action::UpdateFlag { flag: flag?, expected, change: change? };
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

/// Parses DeleteFlag.
pub fn delete_flag(request: v1::DeleteFlagRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let flag = fields.name("name", "flags", &request.name, FlagId::parse);
    let request_id = fields.request_id(request.request_id);
    let parsed = (|| {
        let action = Action::DeleteFlag { flag: flag?, expected: expected(&request.etag) };
        let (reason, validate_only) = (Arc::from(""), false);
        Some(Parsed { action, request_id: request_id?, reason, validate_only })
    })();
    fields.finish(parsed)
}

/// Parses SetKillSwitch.
pub fn set_kill_switch(request: v1::SetKillSwitchRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let flag = fields.name("name", "flags", &request.name, FlagId::parse);
    let request_id = fields.request_id(request.request_id);
    let reason = fields.reason(request.reason);
    let engaged = fields.required("engaged", request.engaged);
    let parsed = (|| {
        let switch = if engaged? { SwitchTo::Engaged } else { SwitchTo::Lifted };
        let action = Action::SetKillSwitch { flag: flag?, switch };
        let validate_only = false;
        Some(Parsed { action, request_id: request_id?, reason: reason?, validate_only })
    })();
    fields.finish(parsed)
}

/// Parses EvaluateFlag.
pub fn evaluate_flag(request: v1::EvaluateFlagRequest) -> Result<EvaluateFlag, Rejected> {
    let mut fields = Fields::default();
    let flag = fields.name("flag", "flags", &request.flag, FlagId::parse);
    let environment = fields.id("environment", &request.environment, EnvironmentId::parse);
    let context = fields.object("context", request.context.unwrap_or_default(), CONTEXT_BYTES_MAX);
    let parsed =
        (|| Some(EvaluateFlag { flag: flag?, environment: environment?, attributes: context? }))();
    fields.finish(parsed)
}

/// Parses the context of a remote evaluation; an absent one has no attributes.
pub fn evaluation_context(context: Option<prost_types::Struct>) -> Result<Object, Rejected> {
    let mut fields = Fields::default();
    let context = fields.object("context", context.unwrap_or_default(), CONTEXT_BYTES_MAX);
    fields.finish(context)
}

/// What a listing, a flag or a release carries as its spec.
pub(super) enum WireSpec {
    Gate(v1::GateSpec),
    Config(v1::ConfigSpec),
}

impl Fields {
    fn flag_spec(&mut self, spec: v1::flag::Spec) -> Option<Arc<Spec>> {
        self.spec(match spec {
            v1::flag::Spec::FeatureGate(gate) => WireSpec::Gate(gate),
            v1::flag::Spec::DynamicConfig(config) => WireSpec::Config(config),
        })
    }

    /// A spec of either kind, in the field that is named after the kind.
    pub(super) fn spec(&mut self, spec: WireSpec) -> Option<Arc<Spec>> {
        let spec = match spec {
            WireSpec::Gate(gate) => self.at("feature_gate", |f| f.gate(gate)).map(Spec::Gate),
            WireSpec::Config(config) => {
                self.at("dynamic_config", |f| f.config(config)).map(Spec::Config)
            }
        };
        spec.map(Arc::new)
    }

    fn gate(&mut self, gate: v1::GateSpec) -> Option<Rules<bool>> {
        self.distinct_rules(gate.rules.iter().map(|rule| &rule.targeting));
        let rules = self.list("rules", gate.rules, 0..=RULES_MAX, |fields, rule| {
            Some(Rule { targeting: fields.targeting(rule.targeting)?, value: rule.value })
        });
        Some(Rules { rules: rules?, default: gate.default_value })
    }

    fn config(&mut self, config: v1::ConfigSpec) -> Option<Rules<Object>> {
        self.distinct_rules(config.rules.iter().map(|rule| &rule.targeting));
        let rules = self.list("rules", config.rules, 0..=RULES_MAX, |fields, rule| {
            let targeting = fields.targeting(rule.targeting);
            let value = fields.required("value", rule.value);
            let value = value.and_then(|value| fields.object("value", value, VALUE_BYTES_MAX));
            Some(Rule { targeting: targeting?, value: value? })
        });
        let default = self.required("default_value", config.default_value);
        let default =
            default.and_then(|value| self.object("default_value", value, VALUE_BYTES_MAX));
        let (rules, default) = (rules?, default?);
        let values = rules.iter().map(|rule| &rule.value).chain([&default]);
        let bytes: usize = values.map(json_bytes_of).sum();
        if bytes > CONFIG_BYTES_MAX {
            return self.refuse(format!(
                "must have at most {} KiB as JSON in all, and has {bytes} bytes",
                CONFIG_BYTES_MAX / 1024
            ));
        }
        Some(Rules { rules, default })
    }

    /// The targeting of a spec's rule.
    fn targeting(&mut self, targeting: Option<v1::TargetingRule>) -> Option<TargetingRule> {
        let targeting = self.required("targeting", targeting)?;
        self.at("targeting", |fields| fields.rule(targeting))
    }

    fn distinct_rules<'a>(
        &mut self,
        targetings: impl Iterator<Item = &'a Option<v1::TargetingRule>>,
    ) {
        let id = |rule: &'a Option<v1::TargetingRule>| rule.as_ref().map_or("", |rule| &*rule.id);
        self.distinct("rules", ".targeting.id", targetings.map(id));
    }

    /// The pipeline of a flag; none if empty.
    pub(super) fn optional_pipeline(&mut self, name: &str) -> Option<Option<PipelineId>> {
        if name.is_empty() {
            return Some(None);
        }
        self.name("pipeline", "pipelines", name, PipelineId::parse).map(Some)
    }

    /// The name of a resource to be created: none, or the one that its id makes.
    pub(super) fn own_name(&mut self, collection: &str, name: &str, id: Option<&str>) {
        let last = name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
        if !name.is_empty() && (id.is_none() || last != id) {
            self.at("name", |fields| fields.complain("must be empty, or agree with the id"));
        }
    }

    fn flag_change(&mut self, mask: &Mask, flag: v1::Flag) -> Option<FlagChange> {
        let description = mask
            .pick("description", flag.description)
            .map(|text| self.text("description", text, TEXT_MAX));
        let spec = self.spec_change(mask, flag.spec);
        let pipeline =
            mask.pick("pipeline", flag.pipeline).map(|pipeline| self.optional_pipeline(&pipeline));
        let labels = mask.pick("labels", flag.labels).map(|labels| self.labels(labels));
        Some(FlagChange {
            description: all_or_nothing(description)?,
            spec: spec?,
            pipeline: all_or_nothing(pipeline)?,
            labels: all_or_nothing(labels)?,
        })
    }

    /// The spec to replace the settled one, which cannot be taken away.
    fn spec_change(
        &mut self,
        mask: &Mask,
        spec: Option<v1::flag::Spec>,
    ) -> Option<Option<Arc<Spec>>> {
        let given = spec.as_ref().map(|spec| match spec {
            v1::flag::Spec::FeatureGate(_) => "feature_gate",
            v1::flag::Spec::DynamicConfig(_) => "dynamic_config",
        });
        for kind in ["feature_gate", "dynamic_config"] {
            if mask.names(kind) && given != Some(kind) {
                self.at(kind, |fields| fields.complain("is in update_mask and is not set"));
            }
        }
        match given.and_then(|kind| mask.pick(kind, spec)).flatten() {
            Some(spec) => self.flag_spec(spec).map(Some),
            None if given.is_none() && *mask == Mask::All => self.refuse(NO_SPEC),
            None => Some(None),
        }
    }
}

/// A flag as the wire has it.
pub fn flag_to_wire(flag: &Flag, active: Option<&ReleaseId>) -> v1::Flag {
    v1::Flag {
        name: format!("flags/{}", flag.id),
        description: flag.description.to_string(),
        spec: Some(match &*flag.spec {
            Spec::Gate(gate) => v1::flag::Spec::FeatureGate(gate_to_wire(gate)),
            Spec::Config(config) => v1::flag::Spec::DynamicConfig(config_to_wire(config)),
        }),
        pipeline: flag.pipeline.as_ref().map(|id| format!("pipelines/{id}")).unwrap_or_default(),
        killed: flag.kill_switch.is_engaged(),
        kill_reason: flag.kill_switch.reason().to_string(),
        active_release: active.map(|id| format!("releases/{id}")).unwrap_or_default(),
        spec_revision: revision_to_wire(flag.spec_revision),
        etag: etag(flag.revision),
        revision: revision_to_wire(flag.revision),
        update_time: Some(timestamp_to_wire(flag.update_time)),
        labels: flag
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
    }
}

pub(super) fn gate_to_wire(gate: &Rules<bool>) -> v1::GateSpec {
    let rule = |rule: &Rule<bool>| v1::gate_spec::Rule {
        targeting: Some(rule_to_wire(&rule.targeting)),
        value: rule.value,
    };
    v1::GateSpec { rules: gate.rules.iter().map(rule).collect(), default_value: gate.default }
}

pub(super) fn config_to_wire(config: &Rules<Object>) -> v1::ConfigSpec {
    let rule = |rule: &Rule<Object>| v1::config_spec::Rule {
        targeting: Some(rule_to_wire(&rule.targeting)),
        value: Some(object_to_wire(&rule.value)),
    };
    v1::ConfigSpec {
        rules: config.rules.iter().map(rule).collect(),
        default_value: Some(object_to_wire(&config.default)),
    }
}
