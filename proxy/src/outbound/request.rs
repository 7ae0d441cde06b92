//! One request of the application's: checked, named, routed; what becomes of it then is `exchange`'s.

mod exchange;

use super::{Outbound, destination::Destination};
use crate::{
    http::{
        Version, authority,
        body::{RequestBody, ResponseBody},
        check,
        error::{self, Kind},
        filter,
        gate::Switch,
        opening::{self, Arrival},
        record::Record,
    },
    io::Stream,
    telemetry::metrics::http::HttpMetrics,
};
use exchange::Exchange;
use http::{Method, Request, Response, uri::Authority};
use hyper::body::Incoming;
use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc};
use tokio::task::spawn_local;

/// One connection of the application's.
#[derive(Debug)]
pub struct Session {
    outbound: Rc<Outbound>,
    client: SocketAddr,
    /// `None`: each request names its own.
    dst: Option<Rc<Destination>>,
    /// The last authority and what became of it: nearly every request of a connection has the same, and parsing costs an allocation.
    last: RefCell<Option<Named>>,
    /// Of the connection's gate.
    pub switch: Switch,
}

#[derive(Clone, Debug)]
struct Named {
    authority: Authority,
    dst: Rc<Destination>,
}

impl Session {
    pub fn new(outbound: Rc<Outbound>, client: SocketAddr, dst: Option<Rc<Destination>>) -> Session {
        Session { outbound, client, dst, last: RefCell::default(), switch: Switch::default() }
    }

    /// Not an `async fn`, so that the request is stored once: what follows works on it by reference.
    pub fn request(
        self: Rc<Self>,
        req: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
        let (mut req, arrival) = opening::receive(req);
        async move {
            Ok(match self.handle(&mut req, &arrival).await {
                Ok(res) => res,
                Err(refusal) => self.refuse(refusal, &arrival),
            })
        }
    }

    async fn handle(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
        arrival: &Arrival,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (seen, asks) = opening::admit(req)?;
        let Named { authority, dst } = self.named(req)?;
        if req.method() == Method::CONNECT && self.dst.is_none() {
            // Boxed: it begins a connection, not a request.
            return Box::pin(self.tunnel(req, dst)).await;
        }
        let version = if req.version() == http::Version::HTTP_2 { Version::Http2 } else { Version::Http1 };
        let router = dst.router(self.outbound.patience()).await?;
        let router = router.http(version).ok_or(Kind::NoRoute)?.clone();
        let Some((rule, found)) = router.find(req) else {
            return Err(Refusal {
                kind: Some(Kind::NoRoute),
                metrics: Some(router.unrouted.clone()),
                answer: None,
            });
        };
        let port = router.meta.as_ref().and_then(|meta| meta.port);
        if let Err(answer) = filter::request(&rule.filters, req, found, port) {
            return Err(Refusal::answered(*answer, &rule.unsent));
        }
        let context = self.outbound.worker.trace(req.headers());
        context.inject(req.headers_mut());
        let exchange = Exchange {
            session: self,
            arrival,
            seen,
            asks,
            version,
            authority: &authority,
            rule,
            head: req.method() == Method::HEAD,
            context,
        };
        Ok(exchange.run(req, found).await)
    }

    /// The destination, and the authority that HTTP/2 needs.
    fn named(&self, req: &Request<RequestBody>) -> Result<Named, Kind> {
        let name = check::authority(req);
        if let (Some(last), Some(name)) = (&*self.last.borrow(), name)
            && last.authority.as_str().as_bytes() == name
        {
            last.dst.touch();
            return Ok(last.clone());
        }
        let config = &self.outbound.config;
        let authority = match (name, &self.dst) {
            (Some(name), _) => Authority::try_from(name).map_err(|_| Kind::BadRequest)?,
            // HTTP/1.0 without `Host`.
            (None, Some(_)) => Authority::from_static("unknown"),
            (None, None) => return Err(Kind::BadRequest),
        };
        let dst = match &self.dst {
            Some(dst) => dst.clone(),
            None => {
                let port = if req.method() == Method::CONNECT { 443 } else { 80 };
                let parsed = authority::parse(
                    authority.as_str(),
                    &config.workload.namespace,
                    &config.outbound.dns_suffix,
                    port,
                )
                .ok_or(Kind::BadRequest)?;
                self.outbound.destination(&parsed.target, Some((parsed.host, parsed.port)))
            }
        };
        let named = Named { authority, dst };
        *self.last.borrow_mut() = Some(named.clone());
        Ok(named)
    }

    /// CONNECT to us: 200 where policy may let something pass, and what comes through is treated like an accepted connection.
    async fn tunnel(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
        dst: Rc<Destination>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        if let Some(refusal) = dst.router(self.outbound.patience()).await?.refusal() {
            return Err(refusal.into());
        }
        self.switch.set();
        let (session, upgraded) = (self.clone(), hyper::upgrade::on(req));
        let guard = self.outbound.drain.guard();
        spawn_local(async move {
            let _guard = guard;
            let ended = match upgraded.await {
                Ok(io) => session.outbound.connection_to(Stream::upgraded(io), session.client, dst).await,
                Err(error) => Err(std::io::Error::other(error)),
            };
            if let Err(error) = ended {
                tracing::debug!(client = %session.client, %error, "tunnel ended");
            }
        });
        Ok(Response::new(ResponseBody::empty()))
    }

    fn refuse(&self, refusal: Refusal, arrival: &Arrival) -> Response<ResponseBody> {
        let label = refusal.kind.map(Kind::label);
        if let Some(label) = label {
            self.outbound.http_errors.inc(label);
        }
        let res = match (refusal.answer, refusal.kind) {
            (Some(answer), _) => answer,
            (None, kind) => error::response(kind.unwrap_or(Kind::Policy), arrival.dialect),
        };
        let metrics = refusal.metrics.unwrap_or_else(|| self.outbound.stray.clone());
        let record = Record::new(&res, arrival, label, metrics);
        record.metrics.request(record.protocol);
        res.map(|body| body.with_record(record))
    }
}

/// A request that no rule let pass.
struct Refusal {
    kind: Option<Kind>,
    metrics: Option<Rc<HttpMetrics>>,
    answer: Option<Response<ResponseBody>>,
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Refusal {
        Refusal { kind: Some(kind), metrics: None, answer: None }
    }
}

impl Refusal {
    fn answered((answer, kind): filter::Answer, metrics: &Rc<HttpMetrics>) -> Refusal {
        Refusal { kind, metrics: Some(metrics.clone()), answer: Some(answer) }
    }
}
