//! The Admin service: every verb, for whoever may open the admin socket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::BoxStream;
use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::coordinator::admin_server::Admin;
use muster_proto::coordinator::{
    ClusterFiles, CreateTokenReply, CreateTokenRequest, LetNodesInReply, LetNodesInRequest, ListNodesReply,
    ListNodesRequest, ListTokensReply, ListTokensRequest, NodeRow, PlanReply, PreflightReply, Progress,
    ResetRequest, RevokeNodeReply, RevokeNodeRequest, RevokeTokenReply, RevokeTokenRequest, TokenRow,
};
use muster_proto::names::NodeName;
use muster_proto::token::{EnrolmentToken, KeyPin, TokenId};
use tonic::{Request, Response, Status};

use crate::doors::fleet::Fleet;
use crate::doors::store::{Store, StoreError};
use crate::removal;
use crate::runs::Runs;

/// A token lives this long when nothing else is said.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Longer than this no token may lie about.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Serves the verbs.
pub struct AdminService {
    pub store: Store,
    pub fleet: Fleet,
    /// The pin of the CA, part of every token.
    pub pin: KeyPin,
    /// Where agents dial.
    pub address: SocketAddr,
    pub runs: Runs,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    type BootstrapStream = BoxStream<'static, Result<Progress, Status>>;
    type ResetStream = BoxStream<'static, Result<Progress, Status>>;

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Answer<CreateTokenReply> {
        let request = request.into_inner();
        let node: NodeName = parsed(request.node.parse())?;
        let lifetime = match request.lifetime_seconds {
            0 => DEFAULT_LIFETIME,
            seconds => Duration::from_secs(seconds.into()),
        };
        if lifetime > LONGEST_LIFETIME {
            return Err(Status::invalid_argument("a token may live for at most 24 hours"));
        }
        let token =
            EnrolmentToken::generate(self.pin).map_err(|error| Status::internal(error.to_string()))?;
        let now = Timestamp::now();
        let expires = now + lifetime;
        stored(self.store.add_token(&token, &node, expires, now))?;
        tracing::info!(token = %token.id(), "a token for {node} was made, valid until {expires:.0}");
        Ok(Response::new(CreateTokenReply {
            node: node.into(),
            token: token.reveal().to_string(),
            coordinator_address: self.address.to_string(),
            expires: format!("{expires:.0}"),
        }))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Answer<ListTokensReply> {
        let tokens = stored(self.store.tokens(Timestamp::now()))?;
        let row = |token: crate::doors::store::TokenState| TokenRow {
            id: token.id,
            node: token.node,
            state: token.state,
            expires: token.expires.to_string(),
        };
        Ok(Response::new(ListTokensReply { tokens: tokens.into_iter().map(row).collect() }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenReply> {
        let id: TokenId = parsed(request.into_inner().id.parse())?;
        if !stored(self.store.revoke_token(&id))? {
            return Err(Status::not_found(format!("there is no token {id}: `coordinator token list`")));
        }
        tracing::info!(token = %id, "the token was revoked");
        Ok(Response::new(RevokeTokenReply {}))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Answer<ListNodesReply> {
        let connected = self.fleet.connected();
        let row = |node: crate::doors::store::Node| {
            let agent = connected.iter().find(|agent| agent.node.as_str() == node.name);
            NodeRow {
                name: node.name,
                enrolled: node.enrolled.to_string(),
                connected: agent.is_some(),
                address: agent.map(|agent| agent.facts.address.clone()).unwrap_or_default(),
                agent_version: agent.map(|agent| agent.agent_version.clone()).unwrap_or_default(),
            }
        };
        let nodes = stored(self.store.nodes())?;
        Ok(Response::new(ListNodesReply { nodes: nodes.into_iter().map(row).collect() }))
    }

    async fn revoke_node(&self, request: Request<RevokeNodeRequest>) -> Answer<RevokeNodeReply> {
        let node: NodeName = parsed(request.into_inner().name.parse())?;
        if !stored(removal::revoke(&self.store, &self.fleet, &node))? {
            return Err(Status::not_found(format!("{node} is not enrolled: `coordinator nodes list`")));
        }
        Ok(Response::new(RevokeNodeReply {}))
    }

    async fn let_nodes_in(&self, _: Request<LetNodesInRequest>) -> Answer<LetNodesInReply> {
        let (node, changed) = self.runs.let_nodes_in(self.address).await?;
        if changed {
            tracing::info!("ufw of {node} lets the nodes dial {}", self.address);
        }
        Ok(Response::new(LetNodesInReply { node: node.into(), changed }))
    }

    async fn plan(&self, request: Request<ClusterFiles>) -> Answer<PlanReply> {
        self.runs.plan(request.into_inner()).await.map(Response::new)
    }

    async fn preflight(&self, request: Request<ClusterFiles>) -> Answer<PreflightReply> {
        self.runs.preflight(request.into_inner()).await.map(Response::new)
    }

    async fn bootstrap(&self, request: Request<ClusterFiles>) -> Answer<Self::BootstrapStream> {
        self.runs.bootstrap(request.into_inner()).await.map(Response::new)
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Answer<Self::ResetStream> {
        self.runs.reset(request.into_inner()).await.map(Response::new)
    }
}

fn parsed<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, Status> {
    value.map_err(|error| Status::invalid_argument(error.to_string()))
}

fn stored<T>(result: Result<T, StoreError>) -> Result<T, Status> {
    result.map_err(|error| {
        tracing::error!("{}", chain(&error));
        Status::internal(chain(&error))
    })
}
