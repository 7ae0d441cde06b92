//! Fields of a manifest that no type of ours has: what they are called, on which line they stand, and what may have been meant.
//! A cluster's API server would drop them; what a manifest then says is `parse`'s work.

use crate::spelling::alike;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value::Error as Stop,
};
use serde_ignored::Path;
use serde_saphyr::Spanned;
use std::{cell::Cell, fmt};

/// Written by us or by the API server, and read by `parse` itself or by nobody.
const KNOWN_TO_ALL: [&str; 3] = ["apiVersion", "kind", "status"];
/// Filters that the standard has and the mesh has not: the route's status says so.
const OTHER_FILTERS: [&str; 5] = ["urlRewrite", "requestMirror", "cors", "externalAuth", "extensionRef"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Item(usize),
}

/// A field, from the object's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub steps: Vec<Step>,
    /// The known field of the same place whose name is most alike.
    pub meant: Option<&'static str>,
}

/// `spec.rules[0].wieght`
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// Reads a `T`, and notes the fields that `T` does not have.
pub fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
    unknown: &mut Vec<Field>,
) -> Result<T, D::Error> {
    serde_ignored::deserialize(from, |path| {
        let steps = steps(&path);
        let Some(Step::Key(last)) = steps.last() else { return };
        let elsewhere = match steps.as_slice() {
            [_] => KNOWN_TO_ALL.contains(&last.as_str()),
            [.., Step::Key(list), Step::Item(_), _] => {
                list == "filters" && OTHER_FILTERS.contains(&last.as_str())
            }
            _ => false,
        };
        if !elsewhere {
            let meant = alike(last, siblings::<T>(&steps[..steps.len() - 1]).iter().copied());
            unknown.push(Field { steps, meant });
        }
    })
}

fn steps(path: &Path<'_>) -> Vec<Step> {
    match path {
        Path::Root => vec![],
        Path::Seq { parent, index } => [steps(parent), vec![Step::Item(*index)]].concat(),
        Path::Map { parent, key } => [steps(parent), vec![Step::Key(key.clone())]].concat(),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            steps(parent)
        }
    }
}

/// The line on which the field's key stands in a YAML document, from 1.
pub fn line(text: &str, steps: &[Step]) -> Option<u32> {
    let found = Cell::new(0);
    // It was read before: what stops this second reading is nothing new.
    let _ =
        serde_saphyr::with_deserializer_from_str(text, |de| Place { steps, line: &found }.deserialize(de));
    u32::try_from(found.get()).ok().filter(|line| *line > 0)
}

/// Walks down to a field.
struct Place<'a> {
    steps: &'a [Step],
    line: &'a Cell<u64>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.steps.first() {
            Some(Step::Key(_)) => from.deserialize_map(self),
            Some(Step::Item(_)) => from.deserialize_seq(self),
            None => IgnoredAny::deserialize(from).map(drop),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let [Step::Key(wanted), rest @ ..] = self.steps else { return Ok(()) };
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.value == *wanted && rest.is_empty() {
                self.line.set(key.referenced.line());
            }
            match key.value == *wanted {
                true => map.next_value_seed(Place { steps: rest, line: self.line })?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [Step::Item(wanted), rest @ ..] = self.steps else { return Ok(()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Place { steps: rest, line: self.line })?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The names of the fields that `T` has at a place. A type tells them when it is asked to read itself, so we let it read a
/// document that consists of that one path, and stop there.
fn siblings<'de, T: Deserialize<'de>>(steps: &[Step]) -> &'static [&'static str] {
    let known = Cell::new([].as_slice());
    let _ = T::deserialize(OnePath { steps, known: &known });
    known.get()
}

#[derive(Clone, Copy)]
struct OnePath<'a> {
    steps: &'a [Step],
    known: &'a Cell<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for OnePath<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(de::Error::custom("the path ends here"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if self.steps.is_empty() {
            self.known.set(fields);
            return self.deserialize_any(visitor);
        }
        visitor.visit_map(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_map(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// A map with one key, the path's first step. It never ends: reading stops below.
impl<'de> MapAccess<'de> for OnePath<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let [Step::Key(key), rest @ ..] = self.steps else { return Ok(None) };
        self.steps = rest;
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(*self)
    }
}

impl<'de> SeqAccess<'de> for OnePath<'_> {
    type Error = Stop;

    fn next_element_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<Option<V::Value>, Stop> {
        let [Step::Item(_), rest @ ..] = self.steps else { return Ok(None) };
        seed.deserialize(OnePath { steps: rest, known: self.known }).map(Some)
    }
}
