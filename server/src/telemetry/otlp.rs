//! OTLP, the protocol of OpenTelemetry, over gRPC: spans as calls end, metrics now and then.
//!
//! Spans go through the SDK, which samples and batches them. Metrics are made of the table of this room
//! for each push: the SDK would look every series up anew at each count, and has no histogram that is read
//! from elsewhere.

use super::{
    Metrics,
    cells::{Kind, Point, Spread, Value},
    table::Family,
};
use http::{HeaderMap, Uri};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::{
            ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
        },
        common::v1::{AnyValue, InstrumentationScope, KeyValue as Attribute, any_value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
            ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
        },
        resource::v1::Resource as WireResource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use phasegate_engine::time::Timestamp;
use std::{path::PathBuf, time::Duration};
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// What all spans that are exported are of, and nothing else: what libraries tell of themselves, the
/// exporter's among them, stays here.
pub const SPANS: &str = "phasegate::span";

/// Whose metrics they are.
const SCOPE: &str = "phasegate";

/// Where to, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where a collector listens, for example `http://127.0.0.1:4317`.
    pub endpoint: Uri,
    /// What is sent along with each call. Values are secret.
    pub headers: HeaderMap,
    /// A call that takes longer is given up.
    pub timeout: Duration,
    /// How often metrics are pushed.
    pub interval: Duration,
    /// Whom to believe besides, or none: whom the operating system believes. In PEM.
    pub certificate: Option<PathBuf>,
    /// What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say that this is, beside its version.
    pub resource: Resource,
    /// What is exported.
    pub signals: Signals,
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Spans and metrics.
    Both,
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate is not there, or cannot be used.
    #[error("cannot read the certificate {0} for OTLP")]
    Certificate(PathBuf, #[source] std::io::Error),
    /// TLS to the collector cannot be set up.
    #[error("cannot set up TLS for OTLP")]
    Tls(#[from] tonic::transport::Error),
    /// The exporter of spans does not take its settings.
    #[error("cannot export spans over OTLP")]
    Spans(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What is said of the process if nothing else is: `service.name` and `service.version`; the variables of
/// the environment `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are stronger.
pub fn resource() -> Resource {
    // The SDK says `unknown_service` where nobody has said a name.
    let read = Resource::builder().build();
    let name = read.get(&"service.name".into()).map(|name| name.to_string());
    let named = name.filter(|name| !name.starts_with("unknown_service"));
    Resource::builder()
        .with_service_name(named.unwrap_or_else(|| SCOPE.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Goes to a collector, with the first call. Must be called inside the runtime.
fn channel(settings: &Settings) -> Result<Channel, Error> {
    let mut endpoint = Endpoint::from(settings.endpoint.clone())
        .timeout(settings.timeout)
        // It is not part of a call's time.
        .connect_timeout(settings.timeout);
    if settings.endpoint.scheme_str() == Some("https") {
        let mut tls = ClientTlsConfig::new().with_native_roots();
        if let Some(path) = &settings.certificate {
            let unreadable = |source| Error::Certificate(path.clone(), source);
            let pem = std::fs::read(path).map_err(unreadable)?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint.connect_lazy())
}

/// The exporter of spans, which stops with [`Traces::stop`].
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Makes it, with the layer that it hears of spans through. Must be called inside the runtime.
    pub fn start<S>(settings: &Settings) -> Result<(Self, impl Layer<S> + use<S>), Error>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel(settings)?)
            .with_metadata(MetadataMap::from_headers(settings.headers.clone()))
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(settings.resource.clone())
            .with_batch_exporter(exporter)
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(SPANS, LevelFilter::INFO));
        Ok((Self(provider), layer))
    }

    /// Sends what is left. Blocks until that is done, or for the time that the SDK gives it.
    pub fn stop(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Pushes metrics.
#[derive(Debug)]
pub struct Push {
    client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    resource: WireResource,
    /// When the numbers began at zero.
    began: Timestamp,
}

impl Push {
    /// To a collector. Must be called inside the runtime.
    pub fn new(settings: &Settings, began: Timestamp) -> Result<Self, Error> {
        let resource = ResourceAttributesWithSchema::from(&settings.resource);
        Ok(Self {
            client: MetricsServiceClient::new(channel(settings)?),
            headers: MetadataMap::from_headers(settings.headers.clone()),
            resource: WireResource { attributes: resource.attributes.0, ..WireResource::default() },
            began,
        })
    }

    /// Pushes the numbers as they stand.
    pub async fn push(&mut self, metrics: &Metrics, now: Timestamp) -> Result<(), Status> {
        let times = Times { began: nanos(self.began), now: nanos(now) };
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = metrics.families().into_iter().filter(|family| !family.points.is_empty());
        let metrics = metrics.map(|family| wire(family, times)).collect();
        let message = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let request = Request::from_parts(self.headers.clone(), Default::default(), message);
        self.client.export(request).await.map(drop)
    }
}

#[derive(Clone, Copy)]
struct Times {
    began: u64,
    now: u64,
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or_default().saturating_mul(1_000_000)
}

/// A metric as OTLP has it. Numbers are cumulative: since the process began.
fn wire(family: Family, times: Times) -> Metric {
    let numbers = || family.points.iter().filter_map(|point| number(point, times)).collect();
    let data = match family.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: family.points.iter().filter_map(|point| spread(point, times)).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
    };
    Metric {
        name: family.name.to_owned(),
        description: family.help,
        unit: family.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(point: &Point, times: Times) -> Option<NumberDataPoint> {
    let value = match &point.value {
        Value::Count(count) => {
            number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX))
        }
        Value::Measure(measure) => number_data_point::Value::AsDouble(*measure),
        Value::Spread(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn spread(point: &Point, times: Times) -> Option<HistogramDataPoint> {
    let Value::Spread(Spread { bounds, counts, sum }) = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(point: &Point) -> Vec<Attribute> {
    let attribute = |(name, value): &(&str, &str)| Attribute {
        key: (*name).to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue((*value).to_owned())) }),
        ..Attribute::default()
    };
    point.labels.iter().map(attribute).collect()
}
