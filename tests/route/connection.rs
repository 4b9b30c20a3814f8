//! Connections: many at once, and what a process may open.

use std::net::TcpStream;
use std::time::Duration;

use aibos::http::server;

/// More than Linux keeps for a listener that asks for the usual number.
const AT_ONCE: usize = 1500;

/// A client whose connection finds no room is not told so: it asks again after a second, and most give up then.
#[tokio::test]
async fn connections_that_come_at_once_wait_to_be_accepted() {
    assert!(server::open_files_most() > 2 * AT_ONCE as u64, "the test itself opens so many");
    let listener = server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts meanwhile.
    let mut connections = Vec::new();
    while connections.len() < AT_ONCE {
        let connected = TcpStream::connect_timeout(&address, Duration::from_millis(500));
        connections.push(connected.unwrap_or_else(|cause| panic!("connection {}: {cause}", connections.len())));
    }
}

#[tokio::test]
async fn an_address_is_free_again_at_once() {
    let listener = server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    // The side that ends first keeps the address for a minute.
    drop(listener.accept().await.unwrap());
    drop((listener, client));
    server::bind(address).unwrap();
}
