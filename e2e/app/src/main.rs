//! What runs in the Pods of stories: a server that says what it was asked and by which Pod, and a client that asks once. Written as
//! applications are that never heard of a mesh; it does not even finish what it began when it is told to end.

mod get;
mod health;
mod serve;
mod tls;

use clap::Parser;
use std::{net::SocketAddr, process::ExitCode, time::Duration};

#[derive(Debug, Parser)]
#[command(name = "mesh-e2e-app")]
enum Arguments {
    /// Answer every request until SIGTERM, and then die.
    Serve {
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
        /// Who answers.
        #[arg(long, env = "HOSTNAME", default_value = "somebody")]
        name: String,
        /// Within TLS, by a certificate that nobody has signed.
        #[arg(long)]
        tls: bool,
    },
    /// Ask once, print the answer, and end: 0 when the status is a success.
    Get {
        url: hyper::Uri,
        /// Ask again until it is a success, for so long.
        #[arg(long, default_value_t = 0)]
        within_s: u64,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-e2e-app: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments {
        Arguments::Serve { listen, name, tls } => {
            let tls = tls.then(tls::acceptor).transpose()?;
            serve::run(listen, name, tls).await
        }
        Arguments::Get { url, within_s } => get::run(url, Duration::from_secs(within_s)).await,
    }
}
