//! Chromium, driven by chromedriver, for stories of the dashboard.

use crate::{
    client,
    process::{Process, Start},
    stock, wait,
};
use fantoccini::{
    Client, ClientBuilder,
    actions::{InputSource, KeyAction, KeyActions},
};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    time::Duration,
};

const DRIVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9515);

/// Starting a browser on a busy machine.
const START: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Browser {
    pub client: Client,
    session: String,
}

/// Tells a story in a browser window of this size and closes the browser, however the story ends.
pub async fn with(width: u32, height: u32, story: impl AsyncFnOnce(&Browser)) {
    let _driver = driver();
    wait::until("chromedriver", START, async || client::get(DRIVER, "/status").await).await;
    let profile = tempfile::tempdir().expect("a temporary folder");
    let browser = Browser::open(width, height, profile.path().to_owned()).await;
    let told = AssertUnwindSafe(story(&browser)).catch_unwind().await;
    let _ = browser.client.close().await;
    if let Err(panic) = told {
        resume_unwind(panic);
    }
}

/// As root in a process namespace of its own, so that no browser outlives its driver even if that is killed.
fn driver() -> Process {
    let port = format!("--port={}", DRIVER.port());
    if rustix::process::geteuid().is_root() {
        let unshare = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "chromedriver"];
        return Start::new("chromedriver", "unshare").args(unshare).arg(port).spawn();
    }
    Start::new("chromedriver", "chromedriver").arg(port).spawn()
}

impl Browser {
    async fn open(width: u32, height: u32, profile: PathBuf) -> Browser {
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                format!("--window-size={width},{height}"), format!("--user-data-dir={}", profile.display()),
            ] },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("written as an object") };
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(capabilities);
        let driver = format!("http://{DRIVER}");
        let connecting = builder.connect(&driver);
        let client = wait::within(START, "Chromium", connecting)
            .await
            .unwrap_or_else(|error| panic!("Chromium: {error}"));
        let session = client.session_id().await.expect("an open session").expect("an open session has an id");
        Browser { client, session }
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What the page shows, as text.
    pub async fn text(&self) -> String {
        self.js("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    pub async fn js(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What one part of the page shows, by selector; empty where there is none.
    pub async fn text_of(&self, selector: &str) -> String {
        let text = self.js(&format!("return document.querySelector({selector:?})?.innerText ?? ''")).await;
        text.as_str().unwrap_or_default().replace(['\u{a0}', '\u{202f}'], " ")
    }

    /// The cells of a table's rows, by the name of the region that it stands in.
    pub async fn rows(&self, region: &str) -> Vec<Vec<String>> {
        let rows = format!(r#"[aria-label="{region}"] tbody tr"#);
        let script = format!(
            "return [...document.querySelectorAll({rows:?})].map(row => [...row.cells].map(cell => cell.innerText))"
        );
        serde_json::from_value(self.js(&script).await).expect("the script returns lists of texts")
    }

    /// Presses one key, wherever the focus is.
    pub async fn press(&self, key: impl Into<char>) {
        let value = key.into();
        let keys =
            KeyActions::new("keys".into()).then(KeyAction::Down { value }).then(KeyAction::Up { value });
        self.client.perform_actions(keys).await.unwrap_or_else(|error| panic!("key {value:?}: {error}"));
    }

    /// Presses a key until the focus is on what the selector names.
    pub async fn press_until(&self, key: impl Into<char> + Copy, selector: &str, most: usize) {
        for _ in 0..most {
            self.press(key).await;
            let there = format!("return document.activeElement.matches({selector:?})");
            if self.js(&there).await == true {
                return;
            }
        }
        let at = self.js("return document.activeElement.outerHTML.slice(0, 200)").await;
        panic!("{selector} has no focus after {most} keys, but {at}");
    }

    /// Waits until one part of the page fits; returns its text.
    pub async fn part(&self, selector: &str, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        let what = format!("{selector} on the page");
        wait::until(&what, within, async || {
            let text = self.text_of(selector).await;
            if fits(&text) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Waits until the page's text fits; returns it.
    pub async fn shows(&self, what: &str, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        wait::until(what, within, async || {
            let text = self.text().await;
            if fits(&text) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Light or dark, as the system would say.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask(
            "goog/cdp/execute",
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } }),
        )
        .await;
    }

    /// A viewport of this size, however small windows may be.
    pub async fn viewport(&self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.ask(
            "goog/cdp/execute",
            json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params }),
        )
        .await;
    }

    /// What chromedriver can beyond the standard.
    async fn ask(&self, command: &str, body: Value) -> Value {
        let mut request = client::to(&format!("/session/{}/{command}", self.session));
        *request.method_mut() = http::Method::POST;
        request
            .headers_mut()
            .insert("host", DRIVER.to_string().parse().expect("an address is a header value"));
        *request.body_mut() = client::body(body.to_string());
        let reply = client::send(DRIVER, request).await.expect("chromedriver answers").is(200);
        serde_json::from_slice(&reply.body).expect("chromedriver answers in JSON")
    }

    /// Warnings and errors of the console since the last call.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.ask("se/log", json!({ "type": "browser" })).await;
        let entries = log["value"].as_array().cloned().unwrap_or_default();
        let bad = entries.into_iter().filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        bad.map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// Serious and critical findings of axe-core on the page as it is.
    pub async fn axe(&self) -> Vec<String> {
        let script = stock::node().join("node_modules/axe-core/axe.min.js");
        let axe = fs::read_to_string(&script).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        self.js(&axe).await;
        let run = "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(r => done(r.violations), e => done([{ id: String(e), impact: 'critical', nodes: [] }]))";
        let found =
            self.client.execute_async(run, vec![]).await.unwrap_or_else(|error| panic!("axe: {error}"));
        let mut serious = vec![];
        for violation in found.as_array().into_iter().flatten() {
            if !matches!(violation["impact"].as_str(), Some("serious" | "critical")) {
                continue;
            }
            let nodes = violation["nodes"].as_array().into_iter().flatten();
            let where_: Vec<_> =
                nodes.map(|node| node["html"].as_str().unwrap_or_default().to_owned()).take(3).collect();
            serious.push(format!("{}: {} {where_:?}", violation["id"], violation["help"]));
        }
        serious
    }
}
