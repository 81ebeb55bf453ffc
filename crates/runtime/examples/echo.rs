//! Sends back what it receives: `cargo run --example echo -- [addr]`.

use std::error::Error;

use oxlip::LocalLoop;
use oxlip::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8007".to_owned());
    let owner = LocalLoop::new()?;
    let listener = TcpListener::bind(&owner, addr.parse()?)?;
    println!("echo on {addr} over {}", owner.driver_name());
    owner.block_on(async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(owner.spawn(echo(stream))),
                Err(error) => eprintln!("a connection was lost before it began: {error}"),
            }
        }
    })
}

async fn echo(stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    // A peer that resets the connection has had enough: that is no error of ours.
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
