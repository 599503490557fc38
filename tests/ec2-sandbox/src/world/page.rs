//! Filters and pages.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::ApiError;

/// One filter of a Describe call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// Any of these.
    pub values: Vec<String>,
}

/// The most values that all filters of a call may hold together (aws-semantics 1.2, second-hand).
const FILTER_VALUES: usize = 200;

/// Refuses more than 200 values, and filters without any.
pub fn check_filters(filters: &[Filter]) -> Result<(), ApiError> {
    if filters.iter().map(|filter| filter.values.len()).sum::<usize>() > FILTER_VALUES {
        let message =
            format!("The maximum number of filter values specified on a single call is {FILTER_VALUES}");
        return Err(ApiError::bad("FilterLimitExceeded", message));
    }
    match filters.iter().find(|filter| filter.values.is_empty()) {
        Some(filter) => Err(ApiError::invalid_value(format!(
            "The filter '{}' must contain at least one value.",
            filter.name
        ))),
        None => Ok(()),
    }
}

/// How many rows a page may have. EC2 accepted 1 and 1001 and refused 0 (CAP-T); a page never has more than
/// `page_size` rows, whether or not a `MaxResults` was given.
pub fn page_limit(max_results: Option<i64>, page_size: usize) -> Result<usize, ApiError> {
    match max_results {
        None => Ok(page_size.max(1)),
        Some(rows) if rows >= 1 => Ok(usize::try_from(rows).unwrap_or(usize::MAX).min(page_size.max(1))),
        Some(rows) => Err(ApiError::invalid_value(format!(
            "Value ( {rows} ) for parameter maxResults is invalid. Parameter must be greater than 0."
        ))),
    }
}

/// The place in a listing where the next page begins; good only for the same listing.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    listing: u64,
    /// Rows with a smaller serial come next.
    pub below: u64,
}

impl Cursor {
    /// The cursor of a request; `listing` is what makes two requests the same listing.
    pub fn read(listing: impl Hash, token: Option<&str>) -> Result<Self, ApiError> {
        let mut hasher = DefaultHasher::new();
        listing.hash(&mut hasher);
        let listing = hasher.finish();
        let Some(token) = token else { return Ok(Self { listing, below: u64::MAX }) };
        let parsed = token.split_at_checked(16).and_then(|(head, tail)| {
            Some((u64::from_str_radix(head, 16).ok()?, u64::from_str_radix(tail, 16).ok()?))
        });
        match parsed {
            Some((found, below)) if found == listing => Ok(Self { listing, below }),
            _ => Err(ApiError::bad("InvalidNextToken", format!("Invalid value '{token}' for nextToken"))),
        }
    }

    /// The token for what follows the row with serial `last`.
    pub fn after(self, last: u64) -> String {
        format!("{:016x}{last:016x}", self.listing)
    }
}

/// Takes a page from rows that come newest first, and says where the next begins.
pub fn take<T>(
    rows: impl Iterator<Item = (u64, T)>,
    limit: usize,
    cursor: Cursor,
) -> (Vec<T>, Option<String>) {
    let mut rows = rows.filter(|(serial, _)| *serial < cursor.below);
    let mut page = Vec::new();
    let mut last = cursor.below;
    for (serial, row) in rows.by_ref().take(limit) {
        last = serial;
        page.push(row);
    }
    let token = rows.next().map(|_| cursor.after(last));
    (page, token)
}
