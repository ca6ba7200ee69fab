//! Messages of the API in proto3 JSON form.

use phasegate_api::{DESCRIPTORS, rehearsal, v1};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are our own"));

/// A generated type, and its name in the contract.
pub trait Named: Message + Default {
    /// The full name.
    const NAME: &'static str;
}

macro_rules! named {
    ($($package:ident::$name:ident = $full:literal,)*) => {$(
        impl Named for $package::$name {
            const NAME: &'static str = $full;
        }
    )*};
}

named! {
    v1::Flag = "phasegate.v1.Flag",
    v1::Pipeline = "phasegate.v1.Pipeline",
    v1::Release = "phasegate.v1.Release",
    v1::ReleaseEvent = "phasegate.v1.ReleaseEvent",
    v1::ReleaseChange = "phasegate.v1.ReleaseChange",
    v1::ListFlagsResponse = "phasegate.v1.ListFlagsResponse",
    v1::ListPipelinesResponse = "phasegate.v1.ListPipelinesResponse",
    v1::ListReleasesResponse = "phasegate.v1.ListReleasesResponse",
    v1::ListReleaseEventsResponse = "phasegate.v1.ListReleaseEventsResponse",
    v1::ListSinksResponse = "phasegate.v1.ListSinksResponse",
    v1::ListDeadLettersResponse = "phasegate.v1.ListDeadLettersResponse",
    v1::ReplayDeadLettersResponse = "phasegate.v1.ReplayDeadLettersResponse",
    v1::SendTestNotificationResponse = "phasegate.v1.SendTestNotificationResponse",
    v1::TriggerReleaseResponse = "phasegate.v1.TriggerReleaseResponse",
    v1::EvaluateFlagResponse = "phasegate.v1.EvaluateFlagResponse",
    v1::WatchReleaseResponse = "phasegate.v1.WatchReleaseResponse",
    v1::WatchReleasesResponse = "phasegate.v1.WatchReleasesResponse",
    v1::GetIdentityResponse = "phasegate.v1.GetIdentityResponse",
    rehearsal::GetResponse = "phasegate.rehearsal.v1.GetResponse",
}

/// The descriptor of a type.
pub(crate) fn descriptor<M: Named>() -> MessageDescriptor {
    POOL.get_message_by_name(M::NAME).expect("the name is one of the contract")
}

/// A field by its name in JSON or in the proto file.
pub(crate) fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// A message as JSON.
pub fn value<M: Named>(message: &M) -> serde_json::Value {
    let bytes = message.encode_to_vec();
    let dynamic = DynamicMessage::decode(descriptor::<M>(), &bytes[..])
        .expect("what the type wrote its descriptor reads");
    serde_json::to_value(&dynamic).expect("proto3 JSON can say all that protobuf can")
}

/// A message of the type, from one that was read by its descriptor; none if it nests deeper than
/// protobuf parsers read.
pub(crate) fn typed<M: Named>(dynamic: &DynamicMessage) -> Option<M> {
    M::decode(&dynamic.encode_to_vec()[..]).ok()
}

/// A value as YAML.
pub fn yaml(value: &serde_json::Value) -> String {
    serde_saphyr::to_string(value).expect("what JSON can say YAML can say too")
}
