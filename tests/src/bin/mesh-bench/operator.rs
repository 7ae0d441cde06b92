//! The operator as a process: started, asked whether it is ready, and what it has taken so far.

use crate::api_server::ApiServer;
use anyhow::{Context, Result, bail, ensure};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time,
};

pub struct Operator {
    child: Child,
    pub grpc: SocketAddr,
    /// From start to ready.
    pub ready_after: Duration,
    /// Until then its kubeconfig has to be there.
    _folder: tempfile::TempDir,
}

/// Longer is a failure.
const READY: Duration = Duration::from_secs(60);

impl Operator {
    pub async fn start(program: &Path, server: &ApiServer, log: &str) -> Result<Operator> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig())?;
        let [grpc, http, webhook, admin] = ports()?;
        let start = Instant::now();
        let child = Command::new(program)
            .args(["--cluster", "--pod", "bench", "--log", log])
            .args(["--grpc-addr".into(), grpc.to_string(), "--http-addr".into(), http.to_string()])
            .args(["--webhook-addr".into(), webhook.to_string(), "--admin-addr".into(), admin.to_string()])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        while !is_ready(admin).await {
            ensure!(start.elapsed() < READY, "the operator is not ready after {READY:?}");
            time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Operator { child, grpc, ready_after: start.elapsed(), _folder: folder })
    }

    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("ending the operator")
    }

    fn file(&self, name: &str) -> Result<String> {
        let pid = self.child.id().context("the operator has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{name}"))?)
    }

    /// Processor time so far, the kernel's for it included.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.file("stat")?;
        // After the name, which ends with the last parenthesis, utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory now and at its peak, in MB.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = self.file("status")?;
        let mb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0 / 1e6).with_context(|| format!("{name} is not in /proc/PID/status"))
        };
        Ok((mb("VmRSS:")?, mb("VmHWM:")?))
    }

    /// Open sockets and files.
    pub fn descriptors(&self) -> Result<usize> {
        let pid = self.child.id().context("the operator has ended")?;
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    asking.await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = vec![];
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let addrs: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    match addrs.try_into() {
        Ok(addrs) => Ok(addrs),
        Err(_) => bail!("no ports are left"),
    }
}
