//! Every method, called in every place that strangers and local users reach: only what the table allows is served.

use std::sync::Arc;
use std::time::Duration;

use muster_coordinator::cli::connect;
use muster_coordinator::settings::Paths;
use muster_proto::capability::{Caller, TABLE};
use muster_proto::transport::channel_over;
use muster_proto::version::ALPN_ENROL;
use muster_tests::trust::Coordinator;
use rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// Whether the place serves the method at all; an empty message is a call like any other.
async fn is_served(channel: &Channel, method: &'static str) -> bool {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let call = client.server_streaming(Request::new(()), PathAndQuery::from_static(method), codec);
    match tokio::time::timeout(Duration::from_secs(2), call).await {
        Ok(Err(status)) => status.code() != Code::Unimplemented,
        _ => true,
    }
}

async fn compare(channel: &Channel, caller: Caller) {
    for (method, callers) in TABLE {
        assert_eq!(is_served(channel, method).await, callers.contains(&caller), "{caller:?} calls {method}");
    }
}

#[tokio::test]
async fn each_place_serves_exactly_what_the_table_allows_it() {
    let coordinator = Coordinator::start().await;
    let paths = Paths::under(coordinator.root.path());
    compare(&connect(&paths.admin_socket()).await.unwrap(), Caller::Administrator).await;
    compare(&connect(&paths.status_socket()).await.unwrap(), Caller::LocalUser).await;

    let mut roots = RootCertStore::empty();
    roots.add(coordinator.daemon.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream =
        muster_agent::connect::dial::dial(&coordinator.endpoint(), settings, ALPN_ENROL).await.unwrap();
    compare(&channel_over(stream).await.unwrap(), Caller::Stranger).await;
}
