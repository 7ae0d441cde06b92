//! Text to tree. Knows how an action is written, not what it means.

use super::Error;
use serde_json::Value;

#[derive(Debug)]
pub struct File {
    pub name: String,
    pub body: Vec<Node>,
    pub defined: Vec<(String, Vec<Node>)>,
}

#[derive(Debug)]
pub enum Node {
    Text(String),
    Output(Pipeline),
    /// The first branch whose condition holds.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// As `If` with one branch, in which the dot is the condition's value.
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Loop),
}

#[derive(Debug)]
pub struct Loop {
    pub names: Names,
    pub over: Pipeline,
    pub body: Vec<Node>,
    /// For a list or map that is empty.
    pub otherwise: Vec<Node>,
}

/// `$key, $value :=`, where given.
type Names = Option<(String, String)>;

/// Each command gets the result of the one before it as its last argument.
#[derive(Debug)]
pub struct Pipeline {
    pub line: usize,
    pub commands: Vec<Command>,
}

#[derive(Debug)]
pub enum Command {
    Operand(Operand),
    Call(String, Vec<Operand>),
}

#[derive(Debug)]
pub enum Operand {
    Literal(Value),
    /// `.a.b`
    Dot(Vec<String>),
    /// `$.a.b`: the data that the template was given.
    Root(Vec<String>),
    /// `$name.a.b`
    Variable(String, Vec<String>),
    Group(Pipeline),
}

pub fn file(name: &str, text: &str) -> Result<File, Error> {
    let pieces = pieces(name, text)?;
    let mut parser = Parser { file: name, pieces: pieces.into_iter().peekable(), defined: vec![] };
    let (body, end) = parser.body()?;
    if let Some(action) = end {
        return Err(parser.error(action.line, format!("{:?} without a beginning", action.text)));
    }
    Ok(File { name: name.to_owned(), body, defined: parser.defined })
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Action(Action),
}

#[derive(Debug)]
struct Action {
    line: usize,
    text: String,
}

impl Action {
    /// `("else", "if .x")`: the first word, and what follows it.
    fn split(&self) -> (&str, &str) {
        self.text.split_once(char::is_whitespace).map_or((&self.text, ""), |(word, rest)| (word, rest.trim()))
    }
}

/// Cuts at `{{` and `}}`, trims where asked, drops comments.
fn pieces(file: &str, text: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = vec![];
    let mut rest = text;
    let mut line = 1;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let before = &rest[..start];
        let inside = &rest[start + 2..];
        line += before.matches('\n').count();
        let at = line;
        let Some(end) = inside.find("}}") else {
            return Err(Error { file: file.into(), line: at, message: "{{ without }}".into() });
        };
        let action = &inside[..end];
        line += action.matches('\n').count();
        rest = &inside[end + 2..];
        let before = if trim { before.trim_start() } else { before };
        let (action, before) = match action.strip_prefix('-') {
            Some(action) => (action, before.trim_end()),
            None => (action, before),
        };
        let action = action.strip_suffix('-').inspect(|_| trim = true).unwrap_or_else(|| {
            trim = false;
            action
        });
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let action = action.trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(Action { line: at, text: action.to_owned() }));
        }
    }
    let rest = if trim { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

struct Parser<'a> {
    file: &'a str,
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    defined: Vec<(String, Vec<Node>)>,
}

impl Parser<'_> {
    fn error(&self, line: usize, message: String) -> Error {
        Error { file: self.file.to_owned(), line, message }
    }

    /// Up to the `end` or `else` of whoever asks, which is returned, or to the end of the file.
    fn body(&mut self) -> Result<(Vec<Node>, Option<Action>), Error> {
        let mut nodes = vec![];
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let line = action.line;
            match action.split() {
                ("end" | "else", _) => return Ok((nodes, Some(action))),
                ("if", condition) => {
                    let condition = self.pipeline(condition, line)?;
                    nodes.push(self.branches(condition, line)?);
                }
                ("with", subject) => {
                    let subject = self.pipeline(subject, line)?;
                    let (body, otherwise) = self.body_and_else(line)?;
                    nodes.push(Node::With(subject, body, otherwise));
                }
                ("range", head) => {
                    let (names, over) = self.range_head(head, line)?;
                    let over = self.pipeline(over, line)?;
                    let (body, otherwise) = self.body_and_else(line)?;
                    nodes.push(Node::Range(Loop { names, over, body, otherwise }));
                }
                ("define", name) => {
                    let name = name.trim_matches('"').to_owned();
                    let (body, otherwise) = self.body_and_else(line)?;
                    if !otherwise.is_empty() {
                        return Err(self.error(line, "define with else".into()));
                    }
                    self.defined.push((name, body));
                }
                (word @ ("template" | "block" | "break" | "continue"), _) => {
                    return Err(self.error(line, format!("{word:?} is not supported")));
                }
                _ => {
                    let pipeline = self.pipeline(&action.text, line)?;
                    nodes.push(Node::Output(pipeline));
                }
            }
        }
        Ok((nodes, None))
    }

    fn branches(&mut self, condition: Pipeline, line: usize) -> Result<Node, Error> {
        let mut branches = vec![];
        let mut condition = condition;
        loop {
            let (body, end) = self.body()?;
            branches.push((condition, body));
            let Some(end) = end else { return Err(self.error(line, "if without end".into())) };
            match end.split() {
                ("end", _) => return Ok(Node::If(branches, vec![])),
                (_, "") => {
                    let (otherwise, _) = self.body_and_else(line)?;
                    return Ok(Node::If(branches, otherwise));
                }
                (_, more) => {
                    let Some(next) = more.strip_prefix("if ") else {
                        return Err(self.error(end.line, format!("{:?} is not supported", end.text)));
                    };
                    condition = self.pipeline(next, end.line)?;
                }
            }
        }
    }

    fn body_and_else(&mut self, line: usize) -> Result<(Vec<Node>, Vec<Node>), Error> {
        let (body, end) = self.body()?;
        let Some(end) = end else { return Err(self.error(line, "no end".into())) };
        match end.split() {
            ("end", _) => Ok((body, vec![])),
            (_, "") => match self.body()? {
                (otherwise, Some(end)) if end.text == "end" => Ok((body, otherwise)),
                _ => Err(self.error(end.line, "else without end".into())),
            },
            _ => Err(self.error(end.line, format!("{:?} is not supported", end.text))),
        }
    }

    fn range_head<'t>(&self, head: &'t str, line: usize) -> Result<(Names, &'t str), Error> {
        let Some((names, over)) = head.split_once(":=") else { return Ok((None, head)) };
        let variable = |name: &str| name.trim().strip_prefix('$').map(str::to_owned);
        let names = names.split_once(',').and_then(|(key, value)| Some((variable(key)?, variable(value)?)));
        match names {
            Some(names) => Ok((Some(names), over.trim())),
            None => Err(self.error(line, "range: want $key, $value :=".into())),
        }
    }

    fn pipeline(&self, text: &str, line: usize) -> Result<Pipeline, Error> {
        let tokens = tokens(text).map_err(|message| self.error(line, message))?;
        let mut tokens = tokens.into_iter().peekable();
        let pipeline = group(&mut tokens, line).map_err(|message| self.error(line, message))?;
        match tokens.next() {
            None => Ok(pipeline),
            Some(token) => Err(self.error(line, format!("{token:?} is one too many"))),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '|' | '(' | ')' => {
                tokens.push(match first {
                    '|' => Token::Pipe,
                    '(' => Token::Open,
                    _ => Token::Close,
                });
                1
            }
            '"' => {
                let mut literals = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let Some(Ok(literal)) = literals.next() else { return Err(format!("no text: {rest}")) };
                tokens.push(Token::Literal(literal.into()));
                literals.byte_offset()
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "|()\"".contains(c)).unwrap_or(rest.len());
                tokens.push(word(&rest[..end])?);
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn word(word: &str) -> Result<Token, String> {
    if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') || ["true", "false", "nil"].contains(&word)
    {
        let word = if word == "nil" { "null" } else { word };
        return serde_json::from_str(word).map(Token::Literal).map_err(|_| format!("{word:?} is no number"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._$".contains(c);
    if word.chars().all(plain) {
        Ok(Token::Word(word.to_owned()))
    } else {
        Err(format!("{word:?} is not supported"))
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// Commands up to `)` or the end.
fn group(tokens: &mut Tokens, line: usize) -> Result<Pipeline, String> {
    let mut commands = vec![];
    loop {
        commands.push(command(tokens, line)?);
        if tokens.next_if_eq(&Token::Pipe).is_none() {
            return Ok(Pipeline { line, commands });
        }
    }
}

fn command(tokens: &mut Tokens, line: usize) -> Result<Command, String> {
    if let Some(Token::Word(name)) = tokens.peek()
        && !name.starts_with(['.', '$'])
    {
        let name = name.clone();
        tokens.next();
        let mut arguments = vec![];
        while !matches!(tokens.peek(), None | Some(Token::Pipe | Token::Close)) {
            arguments.push(operand(tokens, line)?);
        }
        return Ok(Command::Call(name, arguments));
    }
    operand(tokens, line).map(Command::Operand)
}

fn operand(tokens: &mut Tokens, line: usize) -> Result<Operand, String> {
    match tokens.next() {
        Some(Token::Literal(value)) => Ok(Operand::Literal(value)),
        Some(Token::Open) => {
            let inner = group(tokens, line)?;
            match tokens.next() {
                Some(Token::Close) => Ok(Operand::Group(inner)),
                _ => Err("( without )".into()),
            }
        }
        Some(Token::Word(word)) => {
            let path =
                |text: &str| text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            if word.starts_with('.') {
                return Ok(Operand::Dot(path(&word)));
            }
            match word.strip_prefix('$') {
                Some(rest) if rest.is_empty() || rest.starts_with('.') => Ok(Operand::Root(path(rest))),
                Some(rest) => {
                    let (name, fields) = rest.split_once('.').unwrap_or((rest, ""));
                    Ok(Operand::Variable(name.to_owned(), path(fields)))
                }
                // A function without arguments in the place of an argument.
                None => Err(format!("{word:?} stands where a value should")),
            }
        }
        Some(token @ (Token::Pipe | Token::Close)) => Err(format!("{token:?} stands where a value should")),
        None => Err("a value is missing".into()),
    }
}
