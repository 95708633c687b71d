//! Both sides of the test whether nodes get through to each other, over real sockets.
//!
//! Over TCP: the one who tries sends the word and the length of what follows; the other sends the word back, reads so
//! much, and sends the word again. Over UDP: word and padding; the answer is the word and the length that arrived.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::SystemHost;
use crate::host::HostError;
use crate::host::reach::{Door, Listening, Reach, ReachOutcome, Reached, Target, Word};

/// A SYN that was lost is sent again after 1 s; who did not answer the second either will not.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For an answer over a connection that is open.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// Datagrams may be lost: they are sent again after each of these.
const RESENT: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(500),
];
/// Doors do not stay open longer, whatever the coordinator does.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// Fills several packets of the largest size, so that one of them at least is as large as the card sends.
const LARGE: usize = 32 * 1024;
/// Headers of IP and UDP.
const HEADERS: [usize; 2] = [28, 48];

impl Reach for SystemHost {
    async fn listen(&self, address: IpAddr, doors: &[Door], word: Word) -> Result<Listening, HostError> {
        let (news, heard) = mpsc::channel(64);
        let mut listening = Listening { open: Vec::new(), taken: Vec::new(), heard, tasks: JoinSet::new() };
        for &door in doors {
            let opened = open(SocketAddr::new(address, door.port), door, word, news.clone()).await;
            match opened {
                Ok(serving) => {
                    listening.open.push(door);
                    listening.tasks.spawn(async move {
                        let _ = timeout(OPEN_LIMIT, serving).await;
                    });
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => listening.taken.push(door),
                Err(error) => {
                    return Err(HostError::Unexpected {
                        what: format!("listening on {address} port {}", door.port),
                        message: error.to_string(),
                    });
                }
            }
        }
        Ok(listening)
    }

    async fn reach(&self, target: &Target, word: Word) -> Reached {
        let tried =
            if target.datagrams { datagrams(target, word).await } else { connection(target, word).await };
        tried.unwrap_or_else(|error| Reached { outcome: outcome_of(&error), said: error.to_string() })
    }
}

type Serving = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn open(
    address: SocketAddr,
    door: Door,
    word: Word,
    news: mpsc::Sender<(Door, IpAddr)>,
) -> io::Result<Serving> {
    if door.datagrams {
        let socket = UdpSocket::bind(address).await?;
        return Ok(Box::pin(answer_datagrams(socket, door, word, news)));
    }
    let listener = TcpListener::bind(address).await?;
    Ok(Box::pin(answer_connections(listener, door, word, news)))
}

async fn answer_connections(
    listener: TcpListener,
    door: Door,
    word: Word,
    news: mpsc::Sender<(Door, IpAddr)>,
) {
    let mut answered = JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        // A cluster has not so many nodes that try one door at once.
        if answered.len() >= 256 {
            answered.join_next().await;
        }
        let news = news.clone();
        answered.spawn(async move {
            if let Ok(Ok(())) = timeout(CONNECT_LIMIT + ANSWER_LIMIT, answer_connection(stream, word)).await {
                let _ = news.try_send((door, from.ip().to_canonical()));
            }
        });
    }
}

async fn answer_connection(mut stream: TcpStream, word: Word) -> io::Result<()> {
    let mut said = Word::default();
    stream.read_exact(&mut said).await?;
    if said != word {
        return Err(ErrorKind::InvalidData.into());
    }
    let length = stream.read_u32().await? as usize;
    stream.write_all(&word).await?;
    let mut rest = vec![0; length.min(LARGE)];
    stream.read_exact(&mut rest).await?;
    stream.write_all(&word).await?;
    stream.shutdown().await
}

async fn answer_datagrams(socket: UdpSocket, door: Door, word: Word, news: mpsc::Sender<(Door, IpAddr)>) {
    let mut said = vec![0; 65_536];
    loop {
        // An error here is an old answer's, which nobody waited for.
        let Ok((length, from)) = socket.recv_from(&mut said).await else { continue };
        if said[..length].starts_with(&word) {
            let _ = news.try_send((door, from.ip().to_canonical()));
            let answer = [&word[..], &(length as u32).to_be_bytes()].concat();
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn connection(target: &Target, word: Word) -> io::Result<Reached> {
    let Ok(connected) = timeout(CONNECT_LIMIT, TcpStream::connect(target.address)).await else {
        return Ok(silent(format!("no answer within {} s", CONNECT_LIMIT.as_secs())));
    };
    let mut stream = connected?;
    if target.foreign {
        return Ok(through());
    }
    let large = if target.large { vec![0; LARGE] } else { Vec::new() };
    stream.write_all(&word).await?;
    stream.write_u32(large.len() as u32).await?;
    let mut said = Word::default();
    match timeout(ANSWER_LIMIT, stream.read_exact(&mut said)).await {
        Ok(Ok(_)) if said == word => {}
        _ => return Ok(silent("a connection opened, but another program answers there".to_owned())),
    }
    stream.write_all(&large).await?;
    match timeout(ANSWER_LIMIT, stream.read_exact(&mut said)).await {
        Ok(Ok(_)) => Ok(through()),
        _ => Ok(small_only(format!("{LARGE} bytes over TCP did not arrive"))),
    }
}

async fn datagrams(target: &Target, word: Word) -> io::Result<Reached> {
    let any: IpAddr = match target.address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target.address).await?;
    if !answered(&socket, &word).await? {
        return Ok(silent(format!("no answer to {} datagrams", RESENT.len())));
    }
    if target.large {
        let headers = HEADERS[usize::from(target.address.is_ipv6())];
        let packet = getsockopt(&socket, sockopt::IpMtu).map_or(1500, |bytes| bytes as usize);
        let mut large = word.to_vec();
        large.resize(packet.clamp(576, 65_000) - headers, 0);
        if !answered(&socket, &large).await? {
            return Ok(small_only(format!("packets of {packet} bytes did not arrive")));
        }
    }
    Ok(through())
}

/// Whether the other end says that this came whole.
async fn answered(socket: &UdpSocket, said: &[u8]) -> io::Result<bool> {
    let expected = [&said[..16], &(said.len() as u32).to_be_bytes()].concat();
    let mut answer = [0; 64];
    for pause in RESENT {
        socket.send(said).await?;
        let heard = async {
            while socket.recv(&mut answer).await.map(|length| answer[..length] != expected[..])? {}
            Ok::<_, io::Error>(())
        };
        match timeout(pause, heard).await {
            Ok(heard) => return heard.map(|()| true),
            Err(_) => continue,
        }
    }
    Ok(false)
}

fn through() -> Reached {
    Reached { outcome: ReachOutcome::Through, said: String::new() }
}
fn silent(said: String) -> Reached {
    Reached { outcome: ReachOutcome::Silent, said }
}
fn small_only(said: String) -> Reached {
    Reached { outcome: ReachOutcome::SmallOnly, said }
}

fn outcome_of(error: &io::Error) -> ReachOutcome {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => ReachOutcome::Refused,
        ErrorKind::PermissionDenied => ReachOutcome::Forbidden,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ReachOutcome::NoRoute,
        _ => ReachOutcome::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Word = *b"sixteen letters!";
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn free_port(datagrams: bool) -> Door {
        let port = match datagrams {
            true => UdpSocket::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port(),
            false => TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port(),
        };
        Door { datagrams, port }
    }
    fn target(door: Door) -> Target {
        let address = SocketAddr::new(HERE, door.port);
        Target { address, datagrams: door.datagrams, large: true, foreign: false }
    }

    #[tokio::test]
    async fn an_open_door_lets_small_and_large_through_and_tells_who_came() {
        let host = SystemHost::new();
        for door in [free_port(false).await, free_port(true).await] {
            let mut listening = host.listen(HERE, &[door], WORD).await.unwrap();
            assert_eq!((&listening.open[..], &listening.taken[..]), (&[door][..], &[][..]));
            let reached = host.reach(&target(door), WORD).await;
            assert_eq!(reached.outcome, ReachOutcome::Through, "{door:?}: {}", reached.said);
            assert_eq!(listening.heard.recv().await, Some((door, HERE)));
        }
    }

    #[tokio::test]
    async fn a_closed_door_refuses_and_a_dropped_test_closes_its_doors() {
        let host = SystemHost::new();
        for door in [free_port(false).await, free_port(true).await] {
            let listening = host.listen(HERE, &[door], WORD).await.unwrap();
            drop(listening);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(host.reach(&target(door), WORD).await.outcome, ReachOutcome::Refused, "{door:?}");
        }
    }

    #[tokio::test]
    async fn a_port_of_another_program_is_taken_and_an_open_connection_is_enough_there() {
        let other = TcpListener::bind((HERE, 0)).await.unwrap();
        let door = Door { datagrams: false, port: other.local_addr().unwrap().port() };
        let host = SystemHost::new();
        let listening = host.listen(HERE, &[door], WORD).await.unwrap();
        assert_eq!((&listening.open[..], &listening.taken[..]), (&[][..], &[door][..]));
        let foreign = Target { foreign: true, ..target(door) };
        assert_eq!(host.reach(&foreign, WORD).await.outcome, ReachOutcome::Through);
        assert_eq!(host.reach(&target(door), WORD).await.outcome, ReachOutcome::Silent);
    }

    #[tokio::test]
    async fn who_does_not_know_the_word_gets_no_answer() {
        let host = SystemHost::new();
        for door in [free_port(false).await, free_port(true).await] {
            let mut listening = host.listen(HERE, &[door], WORD).await.unwrap();
            let reached = host.reach(&target(door), *b"sixteen 1etters!").await;
            assert_eq!(reached.outcome, ReachOutcome::Silent, "{door:?}: {}", reached.said);
            assert!(listening.heard.try_recv().is_err());
        }
    }
}
