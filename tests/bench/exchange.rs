//! A connection of the load generator: one request at a time, and of its reply only the status. Knows just as much of
//! HTTP/1.1 as the kernel's replies need: a head, and a body of the length that it names.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Opened by the first request if not before, and again after one that failed.
#[derive(Debug)]
pub(crate) struct Connection {
    server: SocketAddr,
    from: Option<IpAddr>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// To a server, perhaps from a certain address.
    pub(crate) fn new(server: SocketAddr, from: Option<IpAddr>) -> Self {
        Self { server, from, stream: None, buffer: Vec::with_capacity(16 * 1024) }
    }

    /// Sends a request and answers the status of its reply.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        // Whoever gives up in the middle leaves no stream behind on which the next would read the rest.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().await?,
        };
        stream.write_all(request).await?;
        self.buffer.clear();
        let reply = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(reply) = Reply::parse(&self.buffer)? {
                break reply;
            }
        };
        if reply.stays_open {
            self.stream = Some(stream);
        }
        Ok(reply.status)
    }

    /// Connects before the first request.
    pub(crate) async fn connect(&mut self) -> io::Result<()> {
        self.stream = Some(self.open().await?);
        Ok(())
    }

    async fn open(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

struct Reply {
    status: u16,
    stays_open: bool,
}

impl Reply {
    /// None when a part is missing.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let text = str::from_utf8(&bytes[..head]).map_err(|_| bad("a head that is no text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| bad("a reply without a status"))?;
        let mut reply = Self { status, stays_open: true };
        let mut length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                reply.stays_open = !value.eq_ignore_ascii_case("close");
            }
        }
        let length = length.ok_or_else(|| bad("a reply without a length"))?;
        Ok((bytes.len() >= head + 4 + length).then_some(reply))
    }
}
