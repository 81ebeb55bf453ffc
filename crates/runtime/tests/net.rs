//! TCP: the same on the system's loopback and in simulations, and what only a simulation can show.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use oxlip::net::{TcpListener, TcpStream};
use oxlip::{AnyDriver, Elapsed, Faults, LocalLoop, Loop, Sim};

/// Runs the body on every driver, and in a simulation where everything goes slowly and in pieces.
fn everywhere(body: impl Fn(&LocalLoop)) {
    for name in ["epoll", "io_uring", "poll", "select", "sim"] {
        let driver = AnyDriver::new(Some(name)).expect("a driver");
        body(&LocalLoop::with_driver(driver));
    }
    for seed in 0..5 {
        let mut sim = Sim::new(seed);
        sim.set_faults(Faults::rough());
        body(&simulated(sim));
    }
}

fn simulated(sim: Sim) -> LocalLoop {
    LocalLoop::with_driver(AnyDriver::simulating(sim))
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn bind(lp: &Loop) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(lp, loopback()).expect("bind");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A connected pair: the one who called, the one who was called.
async fn pair(lp: &Loop) -> (TcpStream, TcpStream) {
    let (listener, addr) = bind(lp);
    let client = TcpStream::connect(lp, addr).await.expect("connect");
    let (server, _) = listener.accept().await.expect("accept");
    (client, server)
}

async fn read_to_end(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 10_000];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 253) as u8).collect()
}

#[test]
fn what_is_sent_comes_back() {
    everywhere(|owner| {
        owner.block_on(async {
            let (client, server) = pair(owner).await;
            assert_eq!(client.peer_addr(), server.local_addr());
            assert_eq!(server.peer_addr(), client.local_addr());
            let serving = owner.spawn(echo(server));
            let sent = pattern(300_000);
            let words = sent.clone();
            let talking = async {
                client.write_all(&words[..1000]).await?;
                client.write_all(&[]).await?;
                client.write_all(&words[1000..]).await?;
                client.shutdown().await
            };
            let hearing = read_to_end(&client);
            let (talked, heard) = both(talking, hearing).await;
            talked.expect("write");
            assert!(heard.expect("read") == sent);
            assert!(matches!(serving.await, Ok(Ok(()))));
        });
    });
}

/// Both outputs; each future is polled when either is woken.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut done_a, mut done_b) = (None, None);
    poll_fn(|cx| {
        if done_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            done_a = Some(output);
        }
        if done_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            done_b = Some(output);
        }
        match (done_a.take(), done_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (done_a, done_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn many_talk_at_once() {
    everywhere(|owner| {
        owner.block_on(async {
            let (listener, addr) = bind(owner);
            let lp = owner.handle();
            let serving = owner.spawn(async move {
                for _ in 0..30 {
                    let (stream, peer) = listener.accept().await.expect("accept");
                    assert_eq!(stream.peer_addr(), peer);
                    drop(lp.spawn(echo(stream)));
                }
            });
            let clients: Vec<_> = (0..30_usize)
                .map(|n| {
                    let lp = owner.handle();
                    owner.spawn(async move {
                        let stream = TcpStream::connect(&lp, addr).await.expect("connect");
                        let sent = pattern(n * 100 + 1);
                        stream.write_all(&sent).await.expect("write");
                        stream.shutdown().await.expect("shutdown");
                        assert!(read_to_end(&stream).await.expect("read") == sent);
                    })
                })
                .collect();
            for client in clients {
                client.await.expect("a client");
            }
            serving.await.expect("the server");
        });
    });
}

#[test]
fn a_dropped_stream_still_sends_what_was_written() {
    everywhere(|owner| {
        owner.block_on(async {
            let (client, server) = pair(owner).await;
            let sent = pattern(64 * 1024);
            client.write_all(&sent).await.expect("write");
            drop(client);
            assert!(read_to_end(&server).await.expect("read") == sent);
        });
    });
}

#[test]
fn a_writer_waits_for_a_slow_reader() {
    everywhere(|owner| {
        owner.block_on(async {
            let (client, server) = pair(owner).await;
            // More than the kernel keeps for a connection, and much more than a simulation does.
            let real = owner.simulation(|_| ()).is_none();
            let sent = pattern(if real { 8 << 20 } else { 200_000 });
            let expected = sent.clone();
            let client = std::rc::Rc::new(client);
            let writing = owner.spawn({
                let client = client.clone();
                async move { client.write_all(&sent).await }
            });
            owner.sleep(Duration::from_millis(1)).await;
            assert!(!writing.is_finished());
            let reading = async {
                let heard = read_to_end(&server).await;
                heard.expect("read")
            };
            let ending = async {
                writing.await.expect("the writer").expect("write");
                client.shutdown().await.expect("shutdown");
            };
            let (heard, ()) = both(reading, ending).await;
            assert!(heard == expected);
        });
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other() {
    everywhere(|owner| {
        owner.block_on(async {
            let (client, server) = pair(owner).await;
            client.shutdown().await.expect("shutdown");
            client.shutdown().await.expect("twice is as good");
            assert_eq!(server.read(&mut [0; 8]).await.expect("read"), 0);
            assert_eq!(
                server.read(&mut [0; 8]).await.expect("read"),
                0,
                "the end stays"
            );
            let error = client.write_all(b"late").await.expect_err("after the end");
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            server.write_all(b"still here").await.expect("write");
            drop(server);
            assert_eq!(read_to_end(&client).await.expect("read"), b"still here");
            assert_eq!(client.read(&mut []).await.expect("read"), 0);
        });
    });
}

#[test]
fn a_peer_that_is_gone_is_an_error_for_who_writes_on() {
    everywhere(|owner| {
        owner.block_on(async {
            let (client, server) = pair(owner).await;
            drop(server);
            for _ in 0..1000 {
                if let Err(error) = client.write_all(b"anyone?").await {
                    let kind = error.kind();
                    assert!(matches!(
                        kind,
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ));
                    let error = client.write_all(b"no?").await.expect_err("it is lost");
                    assert_eq!(error.kind(), ErrorKind::NotConnected);
                    return;
                }
                owner.sleep(Duration::from_millis(1)).await;
            }
            panic!("nobody is there, and it is never said");
        });
    });
}

#[test]
fn nobody_listening_is_a_refusal() {
    everywhere(|owner| {
        owner.block_on(async {
            let (listener, addr) = bind(owner);
            drop(listener);
            let error = TcpStream::connect(owner, addr)
                .await
                .expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

            let (_listener, open) = bind(owner);
            let stream = TcpStream::connect_any(owner, &[addr, open])
                .await
                .expect("the second");
            assert_eq!(stream.peer_addr(), Some(open));

            let none = TcpStream::connect_any(owner, &[])
                .await
                .expect_err("no address");
            assert_eq!(none.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn an_abandoned_accept_loses_no_caller() {
    everywhere(|owner| {
        owner.block_on(async {
            let (listener, addr) = bind(owner);
            let early = owner
                .timeout(Duration::from_millis(1), listener.accept())
                .await;
            assert!(matches!(early, Err(Elapsed)));
            let _client = TcpStream::connect(owner, addr).await.expect("connect");
            owner.sleep(Duration::from_millis(1)).await;
            listener.accept().await.expect("accept");
        });
    });
}

// From here on: simulations only.

const DELAY: Duration = Duration::from_millis(250);

#[test]
fn a_silent_address_costs_a_quarter_of_a_second() {
    let mut sim = Sim::new(0);
    let silent: SocketAddr = "[2001:db8::1]:80".parse().expect("an address");
    sim.silence(silent);
    let owner = simulated(sim);
    owner.block_on(async {
        let (_listener, addr) = bind(&owner);
        let start = owner.now();
        let stream = TcpStream::connect_any(&owner, &[silent, addr])
            .await
            .expect("the second");
        assert_eq!(owner.now().since(start), DELAY);
        assert_eq!(stream.peer_addr(), Some(addr));
    });
}

#[test]
fn a_slow_first_answer_wins_over_a_later_attempt() {
    let mut sim = Sim::new(0);
    // Asking and answering take 200 ms each: the first attempt is answered after 400 ms, the
    // second began at 250 ms.
    let latency = Duration::from_millis(200);
    sim.set_faults(Faults {
        latency: latency..=latency,
        ..Faults::default()
    });
    let owner = simulated(sim);
    owner.block_on(async {
        let (_one, first) = bind(&owner);
        let (other, second) = bind(&owner);
        let start = owner.now();
        let stream = TcpStream::connect_any(&owner, &[first, second])
            .await
            .expect("the first");
        assert_eq!(owner.now().since(start), 2 * latency);
        assert_eq!(stream.peer_addr(), Some(first));
        // The loser was called off before it got there.
        let accepted = owner.timeout(Duration::from_secs(9), other.accept()).await;
        assert!(matches!(accepted, Err(Elapsed)));
    });
}

#[test]
fn all_refusals_are_named() {
    let owner = simulated(Sim::new(0));
    owner.block_on(async {
        let addrs: [SocketAddr; 2] = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let error = TcpStream::connect_any(&owner, &addrs)
            .await
            .expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        for addr in addrs {
            assert!(error.to_string().contains(&addr.to_string()), "{error}");
        }
    });
}

#[test]
fn an_abandoned_connect_closes_its_sockets() {
    let mut sim = Sim::new(0);
    let silent: SocketAddr = ([10, 0, 0, 1], 80).into();
    sim.silence(silent);
    sim.set_descriptor_limit(1);
    let owner = simulated(sim);
    owner.block_on(async {
        for _ in 0..3 {
            let limit = Duration::from_secs(60);
            let outcome = owner
                .timeout(limit, TcpStream::connect(&owner, silent))
                .await;
            assert!(matches!(outcome, Err(Elapsed)), "{outcome:?}");
        }
    });
}

#[test]
fn a_listener_without_descriptors_tries_again_after_a_second() {
    let mut sim = Sim::new(0);
    sim.set_descriptor_limit(2);
    let owner = simulated(sim);
    owner.block_on(async {
        let (listener, addr) = bind(&owner);
        let client = TcpStream::connect(&owner, addr).await.expect("connect");
        let start = owner.now();
        let lp = owner.handle();
        let freeing = owner.spawn(async move {
            lp.sleep(Duration::from_millis(2500)).await;
            lp.simulation(|sim| sim.set_descriptor_limit(3))
                .expect("a simulation");
        });
        let (server, _) = listener.accept().await.expect("accept");
        assert_eq!(owner.now().since(start), Duration::from_secs(3));
        freeing.await.expect("the other task");
        server.write_all(b"at last").await.expect("write");
        drop(server);
        assert_eq!(read_to_end(&client).await.expect("read"), b"at last");
    });
}

#[test]
fn resets_come_out_as_errors_and_nothing_hangs() {
    for seed in 0..100 {
        let mut sim = Sim::new(seed);
        sim.set_faults(Faults {
            resets: 100,
            ..Faults::rough()
        });
        let owner = simulated(sim);
        owner.block_on(async {
            let (client, server) = pair(&owner).await;
            let serving = owner.spawn(echo(server));
            let sent = pattern(20_000);
            let talking = async {
                client.write_all(&sent).await?;
                client.shutdown().await
            };
            let (_, heard) = both(talking, read_to_end(&client)).await;
            match heard {
                Ok(heard) => assert!(heard == sent),
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(
                        kind,
                        ErrorKind::ConnectionReset
                            | ErrorKind::BrokenPipe
                            | ErrorKind::NotConnected
                    ));
                }
            }
            drop(client);
            let _ = serving.await.expect("the server ends");
        });
    }
}
