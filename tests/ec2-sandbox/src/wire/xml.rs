//! A writer of XML without attributes.

/// XML being written.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    /// An element with text.
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(&mut self.0, text);
        self.close(name);
    }

    /// An element with text, if there is any.
    pub fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    /// An element with elements.
    pub fn nest(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.open(name);
        inside(self);
        self.close(name);
    }

    /// An element per item, in an element around all.
    pub fn list<T>(
        &mut self,
        name: &str,
        item: &str,
        items: impl IntoIterator<Item = T>,
        each: impl Fn(&mut Self, T),
    ) {
        self.nest(name, |xml| {
            for value in items {
                xml.nest(item, |xml| each(xml, value));
            }
        });
    }

    pub fn finish(self) -> String {
        self.0
    }

    fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }
}

/// Appends text with what XML reserves written out.
pub(crate) fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut xml = Xml::default();
        xml.nest("a", |xml| xml.leaf("b", "1 < 2 & \"3\""));
        assert_eq!(xml.finish(), "<a><b>1 &lt; 2 &amp; &quot;3&quot;</b></a>");
    }
}
