//! Prometheus text, as far as tests need it.

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    /// As written between the braces.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads a scrape; a line that is no sample fails the test.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self { samples: lines.map(sample).collect() }
    }

    /// The sum of the samples called `name` whose labels contain all of `labels`, each given as
    /// `key="value"`. A name that was never exposed fails the test: a misspelt one would be 0.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let mut named = self.samples.iter().filter(|sample| sample.name == name).peekable();
        assert!(named.peek().is_some(), "no metric is called {name}: {:?}", self.names());
        let fits = |sample: &&Sample| labels.iter().all(|label| sample.labels.contains(label));
        named.filter(fits).map(|sample| sample.value).sum()
    }

    /// The labels of each sample called `name`, as written between the braces.
    pub fn labels(&self, name: &str) -> Vec<&str> {
        let named = self.samples.iter().filter(|sample| sample.name == name);
        named.map(|sample| sample.labels.as_str()).collect()
    }

    /// Every gauge of work in flight, with its labels.
    pub fn in_flight(&self) -> Vec<(String, f64)> {
        let gauges = self.samples.iter().filter(|sample| sample.name.contains("in_flight"));
        gauges
            .map(|sample| (format!("{}{{{}}}", sample.name, sample.labels), sample.value))
            .collect()
    }

    /// Every name that is exposed.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        names.dedup();
        names
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    let labels = labels.strip_suffix('}').unwrap_or(labels);
    Sample { name: name.to_owned(), labels: labels.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP legs Legs.\n# TYPE legs counter\n\
        legs_total{outcome=\"ok\",shard=\"0\"} 3\nlegs_total{outcome=\"failed\",shard=\"0\"} 1\n\
        flights_in_flight 2\n# EOF\n";

    #[test]
    fn samples_are_summed_by_label() {
        let metrics = Metrics::parse(TEXT);
        assert!((metrics.sum("legs_total", &[]) - 4.0).abs() < f64::EPSILON);
        assert!((metrics.sum("legs_total", &["outcome=\"ok\""]) - 3.0).abs() < f64::EPSILON);
        assert_eq!(metrics.in_flight(), [("flights_in_flight{}".to_owned(), 2.0)]);
    }

    #[test]
    #[should_panic(expected = "no metric is called leg_total")]
    fn a_misspelt_name_is_not_zero() {
        Metrics::parse(TEXT).sum("leg_total", &[]);
    }
}
