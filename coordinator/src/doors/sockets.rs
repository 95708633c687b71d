//! The unix sockets for people and scripts: who may open one is the file's mode, what it serves is given here.

#![allow(
    clippy::disallowed_methods,
    reason = "a socket is bound at its path; its own folder holds nothing of others"
)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::Stream;
use muster_proto::generated::DESCRIPTORS;
use muster_proto::transport;
use nix::unistd::{Group, chown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::service::RoutesBuilder;
use tonic::transport::server::Connected;

use crate::doors::listener::ACCEPT_PAUSE;

/// At once on one socket; more than people and scripts need.
const MOST_CONNECTIONS: usize = 128;
/// ... and of one user: the others find places all the same.
const MOST_OF_A_USER: usize = 32;

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another coordinator serves {path} already: stop it first (systemctl stop muster-coordinator)")]
    InUse { path: PathBuf },
    #[error("{path} stands where the socket must be and is no socket: remove it")]
    Occupied { path: PathBuf },
    #[error("the socket {path} cannot be opened: is its folder missing, or of another owner?")]
    Opening { path: PathBuf, source: io::Error },
    #[error(
        "{path} cannot be given to the group {group}: the coordinator's user must be a member (SupplementaryGroups={group} in its unit)"
    )]
    Group { path: PathBuf, group: String, source: nix::Error },
    #[error("the service descriptions for reflection cannot be read")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Who may connect to a socket.
pub enum Access<'a> {
    /// Its owner, root and this group.
    Group(&'a str),
    Everybody,
}

/// Opens a socket. A dead one of an earlier process is replaced; a live one is not.
pub async fn open(path: &Path, access: Access<'_>) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Opening { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::Occupied { path: path.to_owned() });
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(SocketError::InUse { path: path.to_owned() });
        }
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Bound with the usual umask nobody but the owner can connect; the mode opens it to the others afterwards.
    let listener = UnixListener::bind(path).map_err(failed)?;
    let set_mode =
        |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed);
    match access {
        Access::Everybody => set_mode(0o666)?,
        Access::Group(name) => match Group::from_name(name).map_err(|error| failed(error.into()))? {
            Some(group) => {
                chown(path, None, Some(group.gid)).map_err(|source| SocketError::Group {
                    path: path.to_owned(),
                    group: group.name.clone(),
                    source,
                })?;
                set_mode(0o660)?;
            }
            None => {
                tracing::warn!(
                    "there is no group {name}: {} serves root and its owner alone",
                    path.display()
                );
                set_mode(0o600)?;
            }
        },
    }
    Ok(listener)
}

/// Serves the routes on the socket until the future is dropped; standard health and reflection come with them.
/// `services` are the full names of the services among the routes.
pub async fn serve(
    listener: UnixListener,
    mut routes: RoutesBuilder,
    services: &[&'static str],
) -> Result<(), SocketError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in services {
        health.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    routes.add_service(health_service);
    let describe = || {
        let all = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        services.iter().fold(all, |builder, service| builder.with_service_name(*service))
    };
    routes.add_service(describe().build_v1()?);
    routes.add_service(describe().build_v1alpha()?);
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    transport::server().add_routes(routes.routes()).serve_with_incoming(connections(listener)).await.map_err(
        |error| SocketError::Opening { path: path.unwrap_or_default(), source: io::Error::other(error) },
    )
}

/// The connections as they come. What is beyond the limits is closed at once: a local user who opens sockets without end takes
/// no descriptor from the agents, and no place from another user.
fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<Counted>> {
    let places = Places::default();
    async_stream::stream! {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let user = stream.peer_cred().map(|peer| peer.uid());
                    if let Some(place) = user.ok().and_then(|user| places.take(user)) {
                        yield Ok(Counted { stream, _place: place });
                    }
                }
                Err(error) => {
                    tracing::warn!("a local connection cannot be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// How many connections each user has, by his number.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

impl Places {
    /// A place for one more connection of this user; none when he, or all together, have as many as they may.
    fn take(&self, user: u32) -> Option<Place> {
        let mut taken = self.0.lock().expect("no holder of the lock panics");
        if taken.values().sum::<usize>() >= MOST_CONNECTIONS {
            return None;
        }
        let own = taken.entry(user).or_default();
        if *own >= MOST_OF_A_USER {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), user })
    }
}

/// One of a user's places; free again when this goes.
struct Place {
    places: Places,
    user: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().expect("no holder of the lock panics");
        if let Entry::Occupied(mut own) = taken.entry(self.user) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// A connection that has one of the places; the place is free again when it ends.
struct Counted {
    stream: UnixStream,
    _place: Place,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Counted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_modes_say_who_may_connect_and_a_missing_group_opens_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (status, admin) = (folder.path().join("status.sock"), folder.path().join("admin.sock"));
        let _status = open(&status, Access::Everybody).await.unwrap();
        let _admin = open(&admin, Access::Group("no-such-group")).await.unwrap();
        assert_eq!((mode(&status), mode(&admin)), (0o666, 0o600));
    }

    #[tokio::test]
    async fn a_local_user_who_opens_sockets_without_end_gets_so_many_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.sock");
        let listener = open(&path, Access::Everybody).await.unwrap();
        let serving = tokio::spawn(serve(listener, RoutesBuilder::default(), &[]));
        let mut held = Vec::new();
        for _ in 0..MOST_OF_A_USER {
            held.push(UnixStream::connect(&path).await.unwrap());
        }
        let is_closed = async |stream: &mut UnixStream| {
            let mut byte = [0; 1];
            let read = tokio::time::timeout(std::time::Duration::from_millis(500), stream.read(&mut byte));
            read.await.is_ok_and(|read| matches!(read, Ok(0)))
        };
        let mut beyond = UnixStream::connect(&path).await.unwrap();
        assert!(is_closed(&mut beyond).await, "closed at once");
        held.pop();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let mut again = UnixStream::connect(&path).await.unwrap();
        assert!(!is_closed(&mut again).await, "a place came back");
        serving.abort();
    }

    #[test]
    fn a_user_who_takes_all_his_places_leaves_those_of_others_and_all_come_back() {
        let places = Places::default();
        let held: Vec<Place> = (0..MOST_OF_A_USER).map(|_| places.take(1000).unwrap()).collect();
        assert!(places.take(1000).is_none(), "he has as many as he may");
        let root = places.take(0).expect("root has his own");
        let others: Vec<Place> = (1001..).map_while(|user| places.take(user)).collect();
        assert_eq!(held.len() + 1 + others.len(), MOST_CONNECTIONS);
        drop((held, root, others));
        assert!(places.take(1000).is_some() && places.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_a_foreign_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let live = open(&path, Access::Everybody).await.unwrap();
        assert!(matches!(open(&path, Access::Everybody).await, Err(SocketError::InUse { .. })));
        drop(live);
        assert!(open(&path, Access::Everybody).await.is_ok());
        let file = folder.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(open(&file, Access::Everybody).await, Err(SocketError::Occupied { .. })));
    }
}
