//! BookInfo, a book shop in four services, and the readers who visit it: one small binary plays every part.
//! The parts know nothing of the mesh. They obey `http_proxy` and hand on trace headers, as any application can.

mod arguments;
mod bookshop;
mod client;
mod context;
mod faults;
mod server;
mod traffic;

use arguments::{Arguments, Role};
use bookshop::{details::Details, productpage::Productpage, ratings::Ratings, reviews::Reviews};
use clap::Parser;
use client::Client;
use server::App;
use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // In a Pod, and in `mesh demo`, it is the last line of the log that is seen first.
        Err(e) if e.use_stderr() => {
            eprintln!("mesh-demo: {}", arguments::sentence(&e));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mesh-demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(Arguments { listen, http_proxy, role }: Arguments) -> anyhow::Result<()> {
    let client = Client::new(http_proxy.as_deref())?;
    let app = match role {
        Role::Productpage(at) => App::Productpage(Productpage::new(client, at)),
        Role::Details => App::Details(Details),
        Role::Reviews(options) => App::Reviews(Reviews::new(client, options)),
        Role::Ratings(faults) => App::Ratings(Ratings::new(faults)),
        Role::Traffic(options) => {
            tokio::spawn(traffic::run(client, options));
            App::Traffic
        }
    };
    server::run(listen, Arc::new(app)).await
}
