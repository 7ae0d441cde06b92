//! Numbers as people read them: units beside, a space before %, an en dash for what was not measured.
//! Pure; the browser's clock and time zone come in as arguments.

/// Stands for "nothing measured".
pub const NONE: &str = "–";

/// A number and its unit, kept apart because headlines print them in two sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub value: String,
    pub unit: &'static str,
}

impl Figure {
    fn new(value: String, unit: &'static str) -> Figure {
        Figure { value, unit }
    }

    pub fn none() -> Figure {
        Figure::new(NONE.into(), "")
    }

    /// As in running text: `31 ms`, `8.0/s`, `–`.
    pub fn text(&self) -> String {
        match self.unit {
            "" => self.value.clone(),
            "/s" => format!("{}/s", self.value),
            unit => format!("{} {unit}", self.value),
        }
    }
}

/// Requests per second: `8.0/s`, `240/s`, `12.3 k/s`; never a rounded zero for something that ran.
pub fn rate(per_s: f64) -> Figure {
    let value = match per_s {
        v if v <= 0.0 => "0".into(),
        v if v < 0.05 => "<0.1".into(),
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 9_999.5 => thousands(v.round() as u64),
        v => format!("{:.1} k", v / 1_000.0),
    };
    Figure::new(value, "/s")
}

/// A share from 0 to 1 as `94.8 %`; rounds so that neither 0 % nor 100 % is claimed for what is only near it.
pub fn share(share: Option<f64>) -> Figure {
    let Some(share) = share else { return Figure::none() };
    let percent = (share * 100.0).clamp(0.0, 100.0);
    let value = if percent == 0.0 || percent == 100.0 {
        format!("{percent:.0}")
    } else {
        format!("{:.1}", percent.clamp(0.1, 99.9))
    };
    Figure::new(value, "%")
}

/// A share in whole percent, for the tight room of an edge label: `34 %`.
pub fn whole_share(share: f64) -> String {
    match (share * 100.0).clamp(0.0, 100.0) {
        p if p > 0.0 && p < 0.5 => "<1 %".into(),
        p if p < 100.0 && p > 99.5 => ">99 %".into(),
        p => format!("{p:.0} %"),
    }
}

/// Milliseconds below one second, seconds above: `0.4 ms`, `31 ms`, `1.2 s`, `94 s`.
pub fn latency(ms: Option<f64>) -> Figure {
    let Some(ms) = ms else { return Figure::none() };
    match ms {
        v if v < 0.95 => Figure::new(format!("{v:.1}"), "ms"),
        v if v < 999.5 => Figure::new(format!("{v:.0}"), "ms"),
        v if v < 9_950.0 => Figure::new(format!("{:.1}", v / 1_000.0), "s"),
        v => Figure::new(format!("{:.0}", v / 1_000.0), "s"),
    }
}

/// The duration of one span, which unlike a percentile is exact: `0.32 ms`, `1.9 ms`, `61 ms`.
pub fn duration(us: u64) -> String {
    match us {
        0 => "0 ms".into(),
        1..1_000 => format!("{:.2} ms", us as f64 / 1_000.0),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        _ => latency(Some(us as f64 / 1_000.0)).text(),
    }
}

/// What is left of a lifetime, in the largest unit that is not coarse: `45 min`, `16 h`, `3,641 days`.
pub fn lifetime(seconds: Option<u64>) -> Figure {
    let Some(s) = seconds else { return Figure::none() };
    match s {
        0..120 => Figure::new(s.to_string(), "s"),
        120..7_200 => Figure::new((s / 60).to_string(), "min"),
        7_200..172_800 => Figure::new((s / 3_600).to_string(), "h"),
        _ => Figure::new(thousands(s / 86_400), "days"),
    }
}

/// Powers of 1000, as disks and networks count.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1_000.0 => format!("{b:.0} B"),
        b if b < 999_500.0 => format!("{:.0} KB", b / 1e3),
        b if b < 999.5e6 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// `3,641`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 pod`, `2 pods`.
pub fn count(n: u64, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {noun}{s}", thousands(n))
}

/// Time of day, `20:02:41`. `offset_min` is what has to be added to UTC.
pub fn time_of_day(unix_ms: f64, offset_min: i32) -> String {
    let seconds = (unix_ms / 1_000.0).floor() as i64 + i64::from(offset_min) * 60;
    let of_day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// How a window is written on its button.
pub fn window(window: mesh_api::golden::Window) -> &'static str {
    use mesh_api::golden::Window;
    match window {
        Window::Sec10 => "10 s",
        Window::Min1 => "1 m",
        Window::Min5 => "5 m",
        Window::Min15 => "15 m",
        Window::Hour1 => "1 h",
    }
}

/// How a window is said in a sentence.
pub fn window_words(window: mesh_api::golden::Window) -> &'static str {
    use mesh_api::golden::Window;
    match window {
        Window::Sec10 => "last 10 seconds",
        Window::Min1 => "last minute",
        Window::Min5 => "last 5 minutes",
        Window::Min15 => "last 15 minutes",
        Window::Hour1 => "last hour",
    }
}

/// The head and tail of a long id: `4bf92f35…0e4736`.
pub fn short_id(id: &str) -> String {
    match (id.get(..8), id.get(id.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) if id.len() > 16 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}

/// The part of an identity that tells workloads of one mesh apart: `bookinfo-reviews.bookinfo`.
pub fn short_identity(identity: &str) -> &str {
    identity.split_once(".serviceaccount.identity.").map_or(identity, |(workload, _)| workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let text = |v| rate(v).text();
        assert_eq!(
            [0.0, 0.01, 0.2, 24.0, 99.96, 1_234.0, 12_340.0].map(text),
            ["0/s", "<0.1/s", "0.2/s", "24.0/s", "100/s", "1,234/s", "12.3 k/s"]
        );
    }

    #[test]
    fn a_share_near_a_bound_is_not_the_bound() {
        let text = |v| share(v).text();
        assert_eq!(text(None), "–");
        assert_eq!(text(Some(1.0)), "100 %");
        assert_eq!(text(Some(0.99999)), "99.9 %");
        assert_eq!(text(Some(0.0001)), "0.1 %");
        assert_eq!(text(Some(0.948)), "94.8 %");
        assert_eq!(
            [0.0, 0.001, 0.337, 0.999, 1.0].map(whole_share),
            ["0 %", "<1 %", "34 %", ">99 %", "100 %"]
        );
    }

    #[test]
    fn latencies_change_unit_at_a_second() {
        let text = |v| latency(Some(v)).text();
        assert_eq!(
            [0.42, 9.1, 31.0, 999.6, 1_234.0, 94_000.0].map(text),
            ["0.4 ms", "9 ms", "31 ms", "1.0 s", "1.2 s", "94 s"]
        );
        assert_eq!(latency(None).text(), "–");
        assert_eq!([320, 1_900, 61_000, 2_500_000].map(duration), ["0.32 ms", "1.9 ms", "61 ms", "2.5 s"]);
    }

    #[test]
    fn lifetimes() {
        let text = |s| lifetime(Some(s)).text();
        assert_eq!([30, 2_700, 57_600, 314_582_400].map(text), ["30 s", "45 min", "16 h", "3,641 days"]);
    }

    #[test]
    fn time_of_day_follows_the_zone() {
        assert_eq!(time_of_day(1_763_683_361_000.0, 0), "00:02:41");
        assert_eq!(time_of_day(1_763_683_361_000.0, -60), "23:02:41");
    }

    #[test]
    fn ids_are_cut_only_when_long() {
        assert_eq!(short_id("4bf92f3577b34da6a3ce929d0e0e4736"), "4bf92f35…0e4736");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(short_identity("a.b.serviceaccount.identity.mesh.cluster.local"), "a.b");
    }
}
