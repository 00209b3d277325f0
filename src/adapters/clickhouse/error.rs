//! What went wrong at ClickHouse, and whether trying again can help.

use clickhouse::error::Error as ClickHouseError;
use continuo_domain::Error;
use continuo_domain::error::Cause;

/// ClickHouse cannot serve now.
pub(crate) fn failed(error: ClickHouseError) -> Error {
    Error::Unavailable(Cause::new(error))
}

/// Why ClickHouse refused what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number for this kind of exception.
    pub code: u32,
    /// Its words.
    pub text: String,
}

/// Was it the rows that it did not like? Anything else may pass, for the same rows, another time.
pub fn is_refused(error: &ClickHouseError) -> Option<Refusal> {
    let ClickHouseError::BadResponse(text) = error else { return None };
    let code = text.strip_prefix("Code: ")?.split('.').next()?.trim().parse().ok()?;
    OF_THE_DATA.contains(&code).then(|| Refusal { code, text: text.clone() })
}

/// Exceptions that name the data: parsing, types, sizes, constraints.
const OF_THE_DATA: [u32; 22] = [
    6,   // CANNOT_PARSE_TEXT
    26,  // CANNOT_PARSE_QUOTED_STRING
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  // CANNOT_READ_ALL_DATA
    34,  // ATTEMPT_TO_READ_AFTER_EOF of one value
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    53,  // TYPE_MISMATCH
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    128, // TOO_LARGE_ARRAY_SIZE
    130, // CANNOT_READ_ARRAY_FROM_TEXT
    131, // TOO_LARGE_STRING_SIZE
    190, // SIZES_OF_ARRAYS_DONT_MATCH
    306, // TOO_DEEP_RECURSION
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    407, // DECIMAL_OVERFLOW
    469, // VIOLATED_CONSTRAINT
    645, // INVALID_JSON
];
