//! Merges the values that the layers have for a traffic setting.

use super::{
    Input, Key, Source, TrafficSettings,
    values::{Entry, Value, unite},
};
use crate::reason::{Explanation, Reason};

/// The settings of each layer, and the inputs that counted.
pub(super) struct Layers<'a> {
    /// The highest first.
    pub(super) said: [(Source, &'a TrafficSettings); 3],
    /// The inputs, if they are asked for.
    pub(super) inputs: Option<Vec<Input>>,
}

impl<'a> Layers<'a> {
    /// The value of the highest layer that has one.
    pub(super) fn replaced<T: Value + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a T>,
        built_in: T,
    ) -> Result<T, Explanation> {
        for (source, settings) in self.said {
            if let Some(value) = get(settings) {
                self.input(key, value, source);
                return Ok(value.clone());
            }
        }
        self.built_in(key, &built_in);
        Ok(built_in)
    }

    /// The values of all layers together; the built-in default only if no layer has one.
    pub(super) fn united<T: Entry + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a Vec<T>>,
        built_in: Vec<T>,
    ) -> Result<Vec<T>, Explanation> {
        let (mut all, mut is_said) = (Vec::new(), false);
        for (source, settings) in self.said {
            if let Some(list) = get(settings) {
                is_said = true;
                unite(&mut all, list);
                self.input(key, list, source);
            }
        }
        if !is_said {
            self.built_in(key, &built_in);
            return Ok(built_in);
        }
        if all.len() > T::MOST {
            let most = T::MOST;
            return Err(Reason::InvalidAnnotation.because(format!(
                "{key} has more than {most} entries in pod, NAD and profile together"
            )));
        }
        Ok(all)
    }

    fn built_in(&mut self, key: Key, value: &impl Value) {
        if self.inputs.is_some() && !value.text().is_empty() {
            self.input(key, value, Source::BuiltIn);
        }
    }

    fn input(&mut self, key: Key, value: &impl Value, source: Source) {
        self.note(key.as_str(), || value.text(), source);
    }

    pub(super) fn note(&mut self, name: &str, value: impl FnOnce() -> String, source: Source) {
        if let Some(inputs) = &mut self.inputs {
            inputs.push(Input {
                name: name.into(),
                value: value(),
                source,
            });
        }
    }
}

/// Whether a tenant's value has an effect besides the profile's or, without one, the built-in default. Named like the merges.
pub(super) mod effect {
    use super::{Entry, Value};

    pub(in crate::mesh) fn replaced<T: Value>(said: &T, profile: Option<&T>, built_in: T) -> bool {
        !said.is_same(profile.unwrap_or(&built_in))
    }

    pub(in crate::mesh) fn united<T: Entry>(
        said: &[T],
        profile: Option<&Vec<T>>,
        built_in: Vec<T>,
    ) -> bool {
        !T::are_in(said, profile.unwrap_or(&built_in))
    }
}
