//! The functions that templates may call, as Go's templates and Helm have them.

use serde_json::Value;
use sha2::{Digest, Sha256};

pub fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("quote", [value]) => Ok(Value::String(Value::String(print(value)?).to_string())),
        ("toYaml", [value]) => yaml(value).map(Value::String),
        ("toJson", [value]) => Ok(Value::String(json(value))),
        ("indent", [width, text]) => Ok(indent(number(width)?, &print(text)?).into()),
        ("nindent", [width, text]) => Ok(format!("\n{}", indent(number(width)?, &print(text)?)).into()),
        ("default", [fallback, value]) => Ok(if is_true(value) { value } else { fallback }.clone()),
        ("eq", [a, b]) => Ok((a == b).into()),
        ("ne", [a, b]) => Ok((a != b).into()),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("and", [.., last]) => Ok(arguments.iter().find(|value| !is_true(value)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(arguments.iter().find(|value| is_true(value)).unwrap_or(last).clone()),
        ("omit", [Value::Object(map), keys @ ..]) => {
            let kept = map.iter().filter(|(key, _)| !keys.iter().any(|omitted| omitted == key.as_str()));
            Ok(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
        }
        ("sha256sum", [text]) => Ok(hex(&Sha256::digest(print(text)?)).into()),
        _ => Err(format!("{name} with {} arguments is not supported", arguments.len())),
    }
}

/// Go's truth: nothing, zero and what is empty are false.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as it stands in text.
pub fn print(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(whole(value).to_string()),
        Value::Array(_) | Value::Object(_) => Err(format!("{value}: want toYaml or toJson before it")),
    }
}

fn number(value: &Value) -> Result<usize, String> {
    value.as_u64().and_then(|n| n.try_into().ok()).ok_or_else(|| format!("{value} is no width"))
}

fn indent(width: usize, text: &str) -> String {
    let blanks = " ".repeat(width);
    let lines: Vec<String> = text.split('\n').map(|line| format!("{blanks}{line}")).collect();
    lines.join("\n")
}

fn yaml(value: &Value) -> Result<String, String> {
    let text = serde_saphyr::to_string(value).map_err(|e| format!("toYaml: {e}"))?;
    Ok(text.trim_end().to_owned())
}

/// Go writes a number without a fraction as a whole one: 1, not 1.0.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                (float as i64).into()
            }
            Some(_) | None => value.clone(),
        },
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), whole(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// Keys in order, and `<`, `>`, `&` escaped, as Go writes JSON: the text can end in a checksum.
fn json(value: &Value) -> String {
    whole(value).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
