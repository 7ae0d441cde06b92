//! The find language: `ratings`, `rps>5 health=failing`, `!mtls or (ns:shop and p99>200ms)`.
//! Words next to each other must all hold. Pure: parses a text and says whether something matches.

use mesh_api::{golden::Golden, health::Health};

/// What an expression can ask about one node, edge or row.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// Names it goes by, each searched by a bare word.
    pub names: [&'a str; 3],
    pub namespace: &'a str,
    pub version: &'a str,
    pub health: Option<Health>,
    pub golden: Option<&'a Golden>,
    /// Share over mutual TLS; `None` when nothing ran.
    pub mtls: Option<f64>,
    pub meshed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Find {
    Everything,
    Word(String),
    Text { field: TextField, value: String },
    Number { field: NumberField, op: Op, value: f64 },
    Mtls,
    Meshed,
    Not(Box<Find>),
    All(Vec<Find>),
    Any(Vec<Find>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TextField {
    Name,
    Namespace,
    Version,
    Health,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NumberField {
    Rps,
    Success,
    Error,
    P50,
    P95,
    P99,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// What is wrong with an expression, and at which character.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub at: usize,
    pub message: String,
}

impl Find {
    pub fn parse(text: &str) -> Result<Find, Mistake> {
        let mut parser = Parser { tokens: tokens(text), next: 0, end: text.chars().count() };
        if parser.tokens.is_empty() {
            return Ok(Find::Everything);
        }
        let find = parser.any()?;
        match parser.tokens.get(parser.next) {
            None => Ok(find),
            Some(token) => Err(mistake(token.at, "this closes a parenthesis that was not opened")),
        }
    }

    pub fn matches(&self, facts: &Facts) -> bool {
        match self {
            Find::Everything => true,
            Find::Word(word) => facts.names.iter().any(|name| name.to_lowercase().contains(word)),
            Find::Text { field, value } => match field {
                TextField::Name => facts.names.iter().any(|name| name.to_lowercase() == *value),
                TextField::Namespace => facts.namespace == value,
                TextField::Version => facts.version == value,
                TextField::Health => facts.health.is_some_and(|health| health.word() == value),
            },
            Find::Number { field, op, value } => {
                let number = facts.golden.and_then(|golden| field.of(golden));
                number.is_some_and(|number| op.holds(number, *value))
            }
            Find::Mtls => facts.mtls.is_some_and(|share| share >= 1.0),
            Find::Meshed => facts.meshed,
            // What nothing ran through is neither encrypted nor not.
            Find::Not(inner) if **inner == Find::Mtls => facts.mtls.is_some_and(|share| share < 1.0),
            Find::Not(inner) => !inner.matches(facts),
            Find::All(parts) => parts.iter().all(|part| part.matches(facts)),
            Find::Any(parts) => parts.iter().any(|part| part.matches(facts)),
        }
    }
}

impl NumberField {
    /// In the unit that the language speaks: per second, percent, milliseconds.
    fn of(self, golden: &Golden) -> Option<f64> {
        match self {
            NumberField::Rps => Some(golden.rate_per_s),
            NumberField::Success => golden.success.map(|s| s * 100.0),
            NumberField::Error => golden.success.map(|s| (1.0 - s) * 100.0),
            NumberField::P50 => golden.p50_ms,
            NumberField::P95 => golden.p95_ms,
            NumberField::P99 => golden.p99_ms,
        }
    }
}

impl Op {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Op::Less => left < right,
            Op::AtMost => left <= right,
            Op::Equal => (left - right).abs() < 0.05,
            Op::AtLeast => left >= right,
            Op::More => left > right,
        }
    }
}

struct Token {
    at: usize,
    text: String,
}

fn mistake(at: usize, message: impl Into<String>) -> Mistake {
    Mistake { at, message: message.into() }
}

/// Splits at spaces and around `(`, `)` and a leading `!`.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut open = false;
    for (at, c) in text.chars().enumerate() {
        match c {
            c if c.is_whitespace() => open = false,
            '(' | ')' => {
                tokens.push(Token { at, text: c.into() });
                open = false;
            }
            '!' if !open => tokens.push(Token { at, text: "!".into() }),
            c => match tokens.last_mut() {
                Some(token) if open => token.text.push(c),
                _ => {
                    tokens.push(Token { at, text: c.into() });
                    open = true;
                }
            },
        }
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    /// Length of the text, where a mistake of omission is pointed at.
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.next).map(|token| token.text.as_str())
    }

    fn any(&mut self) -> Result<Find, Mistake> {
        let mut parts = vec![self.all()?];
        while self.peek().is_some_and(|t| t.eq_ignore_ascii_case("or")) {
            self.next += 1;
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Find::Any(parts) })
    }

    fn all(&mut self) -> Result<Find, Mistake> {
        let mut parts = vec![self.one()?];
        while let Some(token) = self.peek() {
            if token == ")" || token.eq_ignore_ascii_case("or") {
                break;
            }
            if token.eq_ignore_ascii_case("and") {
                self.next += 1;
            }
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Find::All(parts) })
    }

    fn one(&mut self) -> Result<Find, Mistake> {
        let Some(token) = self.tokens.get(self.next) else {
            return Err(mistake(self.end, "something is missing here"));
        };
        let (at, text) = (token.at, token.text.clone());
        self.next += 1;
        match text.as_str() {
            "!" => Ok(Find::Not(Box::new(self.one()?))),
            "(" => {
                let inner = self.any()?;
                if self.peek() != Some(")") {
                    return Err(mistake(at, "this parenthesis is not closed"));
                }
                self.next += 1;
                Ok(inner)
            }
            ")" => Err(mistake(at, "something is missing before this")),
            word if word.eq_ignore_ascii_case("or") || word.eq_ignore_ascii_case("and") => {
                Err(mistake(at, format!("something is missing before “{word}”")))
            }
            word => term(at, word),
        }
    }
}

/// One word: `name`, `field=value`, `field>number`, `mtls`.
fn term(at: usize, word: &str) -> Result<Find, Mistake> {
    let Some(split) = word.find(['=', ':', '<', '>']) else {
        return Ok(match word.to_lowercase().as_str() {
            "mtls" | "encrypted" => Find::Mtls,
            "plaintext" => Find::Not(Box::new(Find::Mtls)),
            "meshed" => Find::Meshed,
            other => Find::Word(other.to_owned()),
        });
    };
    let (field, rest) = word.split_at(split);
    let (op, value) = match rest.as_bytes() {
        [b'<', b'=', ..] => (Op::AtMost, &rest[2..]),
        [b'>', b'=', ..] => (Op::AtLeast, &rest[2..]),
        [b'<', ..] => (Op::Less, &rest[1..]),
        [b'>', ..] => (Op::More, &rest[1..]),
        _ => (Op::Equal, &rest[1..]),
    };
    let value_at = at + word.chars().count() - value.chars().count();
    if value.is_empty() {
        return Err(mistake(value_at, format!("a value is missing after {field}")));
    }
    match field.to_lowercase().as_str() {
        "rps" | "rate" => number(NumberField::Rps, op, value, value_at),
        "success" => number(NumberField::Success, op, value, value_at),
        "error" | "errors" => number(NumberField::Error, op, value, value_at),
        "p50" => number(NumberField::P50, op, value, value_at),
        "p95" => number(NumberField::P95, op, value, value_at),
        "p99" => number(NumberField::P99, op, value, value_at),
        "name" => Ok(text(TextField::Name, value)),
        "ns" | "namespace" => Ok(text(TextField::Namespace, value)),
        "version" => Ok(text(TextField::Version, value)),
        "health" => health(value, value_at),
        other => Err(mistake(
            at,
            format!(
                "{other} is no field: use rps, success, error, p50, p95, p99, name, ns, version or health"
            ),
        )),
    }
}

fn text(field: TextField, value: &str) -> Find {
    Find::Text { field, value: value.to_lowercase() }
}

fn health(value: &str, at: usize) -> Result<Find, Mistake> {
    let known = [Health::Healthy, Health::Degraded, Health::Failing, Health::Idle, Health::Unknown];
    if known.iter().any(|health| health.word() == value.to_lowercase()) {
        return Ok(text(TextField::Health, value));
    }
    Err(mistake(at, format!("{value} is no health: use healthy, degraded, failing, idle or unknown")))
}

/// `5`, `1%`, `200ms`, `1.5s`.
fn number(field: NumberField, op: Op, value: &str, at: usize) -> Result<Find, Mistake> {
    let is_latency = matches!(field, NumberField::P50 | NumberField::P95 | NumberField::P99);
    let (digits, factor) = match value {
        v if is_latency && v.ends_with("ms") => (&v[..v.len() - 2], 1.0),
        v if is_latency && v.ends_with('s') => (&v[..v.len() - 1], 1_000.0),
        v if !is_latency && v.ends_with('%') => (&v[..v.len() - 1], 1.0),
        v => (v, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Find::Number { field, op, value: number * factor }),
        _ => Err(mistake(at, format!("{value} is no number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: bool) {
        let golden = Golden {
            requests: 480,
            rate_per_s: 8.0,
            success: Some(0.948),
            p50_ms: Some(9.0),
            p99_ms: Some(310.0),
            ..Golden::default()
        };
        let facts = Facts {
            names: ["ratings", "ratings-v1", ""],
            namespace: "bookinfo",
            version: "v1",
            health: Some(Health::Failing),
            golden: Some(&golden),
            mtls: Some(1.0),
            meshed: true,
        };
        assert_eq!(Find::parse(text).unwrap().matches(&facts), expected, "{text}");
    }

    #[test]
    fn what_matches() {
        for text in [
            "",
            "rat",
            "RATINGS",
            "rps>5",
            "rps>=8",
            "health=failing",
            "error>1%",
            "p99>200ms",
            "p99<0.5s",
            "ns:bookinfo rps>5",
            "reviews or ratings",
            "!(reviews or details)",
            "mtls and version:v1",
            "name=ratings-v1",
            "!plaintext",
            "success<95 ( reviews or !idle )",
        ] {
            check(text, true);
        }
        for text in [
            "reviews",
            "rps>8",
            "health:healthy",
            "!mtls",
            "plaintext",
            "p95>1",
            "ns:shop",
            "rat !meshed",
            "name=rat",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn mistakes_point_at_their_place() {
        let at = |text: &str| Find::parse(text).unwrap_err().at;
        assert_eq!(at("rps>"), 4);
        assert_eq!(at("ok size>4"), 3);
        assert_eq!(at("rps>fast"), 4);
        assert_eq!(at("(a or b"), 0);
        assert_eq!(at("a )"), 2);
        assert_eq!(at("a or"), 4);
        assert_eq!(at("health=ill"), 7);
        assert_eq!(at("!"), 1);
    }
}
