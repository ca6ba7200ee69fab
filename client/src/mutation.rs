//! The shape of every call that changes something.

use uuid::Uuid;

/// Gives a request an id unless it has one, so that it can be made again without being done twice.
pub(crate) fn given_or_fresh(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = Uuid::new_v4().to_string();
    }
}

/// Methods for calls that change a resource and answer with it. They differ in names only.
macro_rules! mutations {
    ($service:ident: $(
        $(#[$doc:meta])*
        $rpc:ident($request:ident) -> $field:ident: $resource:ident;
    )*) => {
        impl $crate::Client {$(
            $(#[$doc])*
            ///
            /// The request gets a `request_id` unless it has one.
            pub async fn $rpc(
                &self,
                mut request: $crate::v1::$request,
            ) -> Result<$crate::v1::$resource, $crate::Error> {
                $crate::mutation::given_or_fresh(&mut request.request_id);
                let call = |request| {
                    let mut service = self.$service();
                    async move { service.$rpc(request).await }
                };
                let answer = self.call(request, call).await?;
                answer.$field.ok_or_else(|| $crate::Error::incomplete(stringify!($field)))
            }
        )*}
    };
}
pub(crate) use mutations;

/// Methods for calls that only check whether such a call would be done, and answer with all that the
/// service says about it.
macro_rules! plans {
    ($service:ident: $(
        $(#[$doc:meta])*
        $name:ident = $rpc:ident($request:ident) -> $answer:ident;
    )*) => {
        impl $crate::Client {$(
            $(#[$doc])*
            ///
            /// Sets `validate_only`. The request gets a `request_id` unless it has one.
            pub async fn $name(
                &self,
                mut request: $crate::v1::$request,
            ) -> Result<$crate::v1::$answer, $crate::Error> {
                $crate::mutation::given_or_fresh(&mut request.request_id);
                request.validate_only = true;
                let call = |request| {
                    let mut service = self.$service();
                    async move { service.$rpc(request).await }
                };
                self.call(request, call).await
            }
        )*}
    };
}
pub(crate) use plans;
