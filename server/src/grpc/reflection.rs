//! `grpc.reflection`, old and new: lists exactly what is served.

use super::{Offer, REQUEST_BYTES_MAX};
use phasegate_api::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tonic_reflection::{pb, server::Builder};

/// Adds both versions of the service: many tools still ask for v1alpha only.
pub(super) fn add_to(routes: Routes, offer: Offer) -> Routes {
    const VALID: &str = "all descriptors were compiled into the program; a test builds both";
    let v1 = builder(offer).build_v1().expect(VALID);
    let v1alpha = builder(offer).build_v1alpha().expect(VALID);
    routes
        .add_service(v1.max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(v1alpha.max_decoding_message_size(REQUEST_BYTES_MAX))
}

fn builder(offer: Offer) -> Builder<'static> {
    // Each build adds its own description; that of the other version must be listed too.
    Builder::configure()
        .register_file_descriptor_set(served(offer))
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET)
        // No service, but what errors carry: so that tools can show their details.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// The files of the contract, without those whose services are not on offer.
fn served(offer: Offer) -> FileDescriptorSet {
    let mut files =
        FileDescriptorSet::decode(DESCRIPTORS).expect("the build wrote it; a test decodes it");
    files.file.retain(|file| {
        let package = file.package();
        let is_served = |service: &str| offer.services().contains(&service);
        file.service.iter().all(|service| is_served(&format!("{package}.{}", service.name())))
    });
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_described_only_in_a_rehearsal() {
        let check = |offer| {
            let _both_can_be_built = add_to(Routes::default(), offer);
            let files = served(offer).file;
            files.iter().any(|file| file.package() == "phasegate.rehearsal.v1")
        };
        assert!(!check(Offer::Production));
        assert!(check(Offer::Rehearsal));
    }
}
