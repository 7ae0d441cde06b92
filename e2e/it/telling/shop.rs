//! What most stories look at: a meshed server of some Pods, and a meshed client whose requests must not fail whatever happens.

use super::{
    app,
    inside::Inside,
    load,
    mesh::{self, Mesh},
    place::Place,
};
use mesh_tests::{client, load::failures};
use std::net::SocketAddr;

pub struct Shop<'a> {
    pub mesh: Mesh<'a>,
    /// The client's network.
    pub inside: Inside,
    /// The server's Service.
    pub addr: SocketAddr,
}

impl Shop<'_> {
    /// In this namespace, which is to be meshed.
    pub async fn open(place: &Place, replicas: u32) -> Shop<'_> {
        let mesh = mesh::meshed(place).await;
        Shop::open_in(place, mesh, replicas).await
    }

    /// The same where Pods are meshed already.
    pub async fn open_in<'a>(place: &'a Place, mesh: Mesh<'a>, replicas: u32) -> Shop<'a> {
        place.apply(&app::server("shop", replicas)).await;
        place.apply(&app::client("client")).await;
        place.rolled_out("shop").await;
        let client = place.running("client").await;
        Shop { mesh, inside: place.inside(&client).await, addr: place.service("shop", 80).await }
    }

    /// Requests that may be sent again, while something happens; none may fail.
    pub async fn unharmed<T>(&self, rate_per_s: u32, change: impl Future<Output = T>) -> T {
        let ask = || client::to("http://shop/asked");
        let (outcomes, done) = load::during(&self.inside, self.addr, rate_per_s, ask, change).await;
        assert_eq!(failures(&outcomes), [], "of {}", outcomes.len());
        done
    }

    /// What the client is answered, by a path that kubelet does not probe.
    pub async fn status(&self) -> http::StatusCode {
        let addr = self.addr;
        self.inside.run(async move || client::get(addr, "/asked").await.unwrap().status()).await
    }
}
