//! Parameters of a query request, taken out one by one.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ApiError;
use crate::world::{Filter, ProfileSpec};

/// What is left of the parameters of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// Parses a form.
    pub fn parse(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    /// Everything that is left.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Looks without taking.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.take(name).filter(|value| !value.is_empty()).ok_or_else(|| ApiError::missing(name))
    }

    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name).as_deref() {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(invalid(name, text)),
        }
    }

    pub fn number(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| invalid(name, &text)),
        }
    }

    /// `Name.1`, `Name.2`, …
    pub fn list(&mut self, name: &str) -> Vec<String> {
        let numbers = self.numbers(name);
        numbers.into_iter().filter_map(|number| self.take(&format!("{name}.{number}"))).collect()
    }

    /// The numbers that follow `name.`, in order.
    fn numbers(&self, name: &str) -> BTreeSet<u32> {
        let prefix = format!("{name}.");
        let fitting = self.0.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        fitting.filter_map(|(key, _)| key.get(prefix.len()..)?.split('.').next()?.parse().ok()).collect()
    }

    /// `Filter.N.Name` and `Filter.N.Value.M`.
    pub fn filters(&mut self) -> Result<Vec<Filter>, ApiError> {
        let mut filters = Vec::new();
        for number in self.numbers("Filter") {
            let name = self.required(&format!("Filter.{number}.Name"))?;
            filters.push(Filter { name, values: self.list(&format!("Filter.{number}.Value")) });
        }
        Ok(filters)
    }

    /// `prefix.N.Key` and `prefix.N.Value`.
    pub fn tags(&mut self, prefix: &str) -> Result<Vec<(String, Option<String>)>, ApiError> {
        let mut tags = Vec::new();
        for number in self.numbers(prefix) {
            let key = self.required(&format!("{prefix}.{number}.Key"))?;
            tags.push((key, self.take(&format!("{prefix}.{number}.Value"))));
        }
        Ok(tags)
    }

    /// `TagSpecification.N`, of which only those for instances are supported.
    pub fn tags_for_instances(&mut self) -> Result<Vec<(String, Option<String>)>, ApiError> {
        let mut tags = Vec::new();
        for number in self.numbers("TagSpecification") {
            let kind = self.required(&format!("TagSpecification.{number}.ResourceType"))?;
            if kind != "instance" {
                return Err(invalid("TagSpecification.ResourceType", &kind));
            }
            tags.extend(self.tags(&format!("TagSpecification.{number}.Tag"))?);
        }
        Ok(tags)
    }

    pub fn profile(&mut self) -> ProfileSpec {
        ProfileSpec { arn: self.take("IamInstanceProfile.Arn"), name: self.take("IamInstanceProfile.Name") }
    }

    /// Takes `Action` and `Version`; a version the sandbox does not speak is refused.
    pub fn check_version(&mut self, service: &str) -> Result<(), ApiError> {
        self.take("Action");
        let expected = match service {
            "ec2" => "2016-11-15",
            "iam" => "2010-05-08",
            _ => "2011-06-15",
        };
        match self.take("Version") {
            Some(version) if version == expected => Ok(()),
            Some(version) => Err(ApiError::bad(
                "NoSuchVersion",
                format!("The requested version ({version}) of service {service} does not exist"),
            )),
            None => Err(ApiError::missing("Version")),
        }
    }

    /// Refuses whatever nobody took.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.0.into_keys().next() {
            Some(name) => {
                Err(ApiError::bad("UnknownParameter", format!("The parameter {name} is not recognized")))
            }
            None => Ok(()),
        }
    }
}

fn invalid(name: &str, value: &str) -> ApiError {
    ApiError::invalid_value(format!("Invalid value '{value}' for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_with_their_values_in_order() {
        let mut params = Params::parse(
            b"Filter.1.Name=instance-id&Filter.1.Value.2=b&Filter.1.Value.1=a&Filter.1.Value.10=c&Filter.2.Name=state",
        );
        let filters = params.filters().unwrap();
        assert_eq!(filters[0].values, ["a", "b", "c"]);
        assert!(filters[1].values.is_empty());
        assert!(params.finish().is_ok());
    }

    #[test]
    fn what_nobody_took_is_refused() {
        let mut params = Params::parse(b"Action=X&Version=2016-11-15&IncludeAll=true");
        params.check_version("ec2").unwrap();
        let refused = params.finish().unwrap_err();
        assert_eq!(refused.code, "UnknownParameter");
        assert!(refused.message.contains("IncludeAll"));
    }

    #[test]
    fn an_empty_profile_is_left_for_the_state_machine_to_refuse() {
        assert_eq!(Params::parse(b"").profile(), ProfileSpec::default());
    }
}
