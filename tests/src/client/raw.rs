//! A connection on which every byte is the test's own.

use anyhow::{Context, Result, bail};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// No read of a test waits longer.
const READ_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// Read but not yet returned.
    rest: Vec<u8>,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Result<Raw> {
        Ok(Raw::over(super::connect(addr).await?))
    }

    pub fn over(stream: TcpStream) -> Raw {
        Raw { stream, rest: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await.context("write")
    }

    /// Ends our direction; the other stays open.
    pub async fn half_close(&mut self) -> Result<()> {
        self.stream.shutdown().await.context("half-close")
    }

    /// Reads exactly so many bytes.
    pub async fn exact(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.rest.len() < length {
            self.more().await?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    /// Reads a response head, up to and including the empty line.
    pub async fn head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.rest.drain(..end + 4).collect();
                return String::from_utf8(head).context("the head is no text");
            }
            self.more().await?;
        }
    }

    /// Reads a head and the body that its `content-length` or chunks announce. Returns the body as it stood on the wire.
    pub async fn response(&mut self) -> Result<(String, Vec<u8>)> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        if lower.contains("\r\ntransfer-encoding: chunked") {
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                body.extend(self.exact(1).await?);
            }
            return Ok((head, body));
        }
        let length = lower.split_once("\r\ncontent-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
        let length = length.map_or(Ok(0), str::parse).context("content-length")?;
        let body = self.exact(length).await?;
        Ok((head, body))
    }

    /// Reads a frame of HTTP/2: its type, flags, and payload.
    pub async fn frame(&mut self) -> Result<(u8, u8, Vec<u8>)> {
        let head = self.exact(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Ok((head[3], head[4], self.exact(length as usize).await?))
    }

    /// Reads until the peer closes.
    pub async fn to_end(&mut self) -> Result<Vec<u8>> {
        loop {
            let before = self.rest.len();
            if self.more().await.is_err() && self.rest.len() == before {
                return Ok(std::mem::take(&mut self.rest));
            }
        }
    }

    /// The stream, when nothing was read ahead.
    pub fn into_stream(self) -> Result<TcpStream> {
        if !self.rest.is_empty() {
            bail!("{} bytes came before they were asked for", self.rest.len());
        }
        Ok(self.stream)
    }

    async fn more(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = tokio::time::timeout(READ_LIMIT, self.stream.read(&mut chunk)).await;
        match read
            .with_context(|| format!("nothing more came after {:?}", String::from_utf8_lossy(&self.rest)))??
        {
            0 => bail!("closed after {:?}", String::from_utf8_lossy(&self.rest)),
            read => self.rest.extend_from_slice(&chunk[..read]),
        }
        Ok(())
    }
}

/// Sends bytes on a connection of its own and returns all that comes back until the peer closes.
pub async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Result<Vec<u8>> {
    let mut raw = Raw::connect(addr).await?;
    raw.write(bytes).await?;
    raw.to_end().await
}
