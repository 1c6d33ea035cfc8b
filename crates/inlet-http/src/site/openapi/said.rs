//! What is said of each route, beside what its row says.

use crate::routes::Endpoint;

/// What is said of a route.
#[derive(Debug, Clone, Copy)]
pub(in crate::site) struct Said {
    /// What it does, in full sentences.
    pub(in crate::site) description: &'static str,
    /// Its good answers, and those worth a word of their own.
    pub(in crate::site) answers: &'static [(u16, &'static str)],
    /// The headers it knows, beside the usual ones.
    pub(in crate::site) headers: &'static [&'static str],
}

const fn plain(description: &'static str, answers: &'static [(u16, &'static str)]) -> Said {
    Said { description, answers, headers: &[] }
}

/// What is said of a route.
pub(in crate::site) fn said(endpoint: Endpoint) -> Said {
    match endpoint {
        Endpoint::Save => Said {
            description: "Takes one JSON value, in UTF-8. The answer comes once it is safe: after \
                a 202 it ends in the store or among the dead letters, and nowhere else. Sent \
                again with the same Idempotency-Key, it gives the same receipt and is stored once; \
                the answer then carries `Idempotency-Replayed: true`, as far as can be seen here.",
            answers: &[
                (202, "It is safe. Location is where its receipt is"),
                (409, "The key was used before in this stream with another body"),
                (503, "There is no room; nothing was accepted. Retry-After says when to try again"),
            ],
            headers: &["Idempotency-Key", "Content-Encoding"],
        },
        Endpoint::SaveBatch => Said {
            description: "Takes many documents: NDJSON, one to a line, or a JSON array. Each is \
                accepted or refused by itself, and `results` says so in their order: a receipt \
                without its body, or a problem with the item's `index`. With an Idempotency-Key \
                the document at index n (from 0) has the key KEY#n; one that was there before has \
                `replayed`. In application/vnd.inlet.keyed+ndjson each line has a key and a \
                document, {\"key\":\"KEY\",\"document\":DOCUMENT}, and is taken as if it had been \
                sent alone with that key.",
            answers: &[
                (202, "All are safe"),
                (207, "Some were refused"),
                (400, "All were refused; `results` says why each was"),
                (503, "There is no room; nothing was accepted. Retry-After says when to try again"),
            ],
            headers: &["Idempotency-Key", "Content-Encoding"],
        },
        Endpoint::Receipt => plain(
            "Tells where an accepted document is: `queued`, `stored`, or `dead` with its cause; and \
             the MD5 of what is kept. `conflicts` counts other bodies that were sent under its key: \
             they are at `dead_letters`.",
            &[(200, "Its state"), (404, "The id was never given here, or its document was erased")],
        ),
        Endpoint::Document => Said {
            description: "Gives the document byte for byte. What is known about it is in X-Stream, \
                X-Received, X-Stored and X-Body-MD5. A document never changes, so a client that \
                has it is answered 304.",
            answers: &[(200, "The document"), (304, "It is what you have"), (404, "Not stored")],
            headers: &["If-None-Match"],
        },
        Endpoint::Erase => plain(
            "Erases the document and its dead letters. One that still waits in the queue is \
             dropped when it comes. Its key can be used again.",
            &[(204, "It is gone"), (404, "There is no such document")],
        ),
        Endpoint::Documents => plain(
            "Gives documents in the order they were stored, newest last. A page ends early where \
             its bodies come to some 8 MiB; `more` says whether there was more, and `next` is the \
             cursor of what follows, also of what is still to come. With `last` it gives the newest \
             ones, with `last=0` the cursor of what is still to come; with `prefix` those whose \
             ids begin so.",
            &[(200, "A page: documents, next, more")],
        ),
        Endpoint::Streams => plain(
            "Lists every stream with its number of documents, their bytes, and when its first and \
             last were received.",
            &[(200, "The streams, in name order")],
        ),
        Endpoint::DeadLetters => plain(
            "Gives dead letters, oldest first: the document whole, the cause and its class, and \
             how often it was tried.",
            &[(200, "A page: dead_letters, next, more")],
        ),
        Endpoint::Redrive => plain(
            "Sends the dead letters that meet a filter back to the queue under the ids they have, \
             or with `dry_run` only counts them. A dead letter stays listed until it is stored.",
            &[(200, "How many matched, were redriven, and can't be (skipped)")],
        ),
        Endpoint::Summaries => {
            plain("Lists the weeks that have a summary, newest first.", &[(200, "The weeks")])
        }
        Endpoint::Summary => plain(
            "Gives the summary of a week: as JSON at WEEK.json, as a page at WEEK.html, and at \
             WEEK by the Accept header.",
            &[(200, "The summary"), (404, "There is none for that week")],
        ),
        Endpoint::Files => plain(
            "Gives files in the order of their keys: key, bytes, contentType, sha256, modified. \
             `next` is the cursor of what follows.",
            &[(200, "A page: files, next, more")],
        ),
        Endpoint::FilePut => Said {
            description: "Puts a file, streamed: it is there once it is whole, checked and on \
                disk, in place of the one before; one that breaks off changes nothing. With \
                `uploadId` and `partNumber` the body is a part of an upload that was begun; it \
                needs Content-Length. A token with the scope save creates files; to replace one \
                it needs admin as well. `If-None-Match: *` puts it only where there is none, \
                If-Match only in place of that one.",
            answers: &[
                (201, "The file is there"),
                (200, "The part is there"),
                (400, "The checksum does not fit; nothing was kept"),
                (403, "A file is there, and the token may not replace it"),
                (412, "The condition does not hold"),
                (503, "There is no room; nothing was kept. Retry-After says when to try again"),
            ],
            headers: &[
                "Content-Type",
                "Content-MD5",
                "Content-Digest",
                "x-amz-checksum-sha256",
                "If-None-Match",
                "If-Match",
            ],
        },
        Endpoint::FileGet => Said {
            description: "Gives the file, or the range of it that is asked for; HEAD tells what is \
                known of it. The ETag is the SHA-256 of its bytes, which Repr-Digest has as well \
                (RFC 9530). With `uploadId` it tells which parts of the upload were put.",
            answers: &[
                (200, "The file"),
                (206, "The range of it"),
                (304, "It is what you have"),
                (404, "There is none"),
                (416, "The range is not in it"),
            ],
            headers: &["Range", "If-Range", "If-None-Match", "If-Modified-Since"],
        },
        Endpoint::FilePost => Said {
            description: "With `uploads` it begins an upload in parts, and gives its `uploadId`. \
                With `uploadId` it makes a file of the parts that the body names, or of all: each \
                but the last has at least 5 MiB. An upload that nobody finishes is removed after \
                seven days.",
            answers: &[(200, "The upload is begun"), (201, "The file is there")],
            headers: &["Content-Type", "If-None-Match", "If-Match"],
        },
        Endpoint::FileDelete => plain(
            "Deletes the file; with `uploadId` it abandons the upload and removes its parts, for \
             which a token needs the scope save instead.",
            &[(204, "It is gone"), (404, "There is no such file")],
        ),
        Endpoint::Tokens => plain(
            "Lists tokens in the order in which they were made: name, scopes, streams (null for \
             all), created, expires, and last_used. The last use is known to the minute at the \
             instance that answers, and within the hour at others. No text of a token is kept.",
            &[(200, "The tokens")],
        ),
        Endpoint::TokenAdd => plain(
            "Makes a token: `name`, `scopes`, and as far as wanted `streams`, to which it is \
             limited, and `expires`. The answer has its text, which is told this once.",
            &[(201, "The token, with its text"), (409, "The name is taken, or there is no room")],
        ),
        Endpoint::TokenRevoke => plain(
            "Revokes a token. It is refused here at once, and by other instances within a second, \
             or within a minute where the secrets are AWS Secrets Manager.",
            &[
                (204, "It is gone"),
                (404, "There is no such token"),
                (409, "It is the last that may administer; `last=true` revokes it"),
            ],
        ),
        Endpoint::Landing => plain(
            "Tells which instance in which zone answered, with figures from the store that are at \
             most two seconds old: a page for a browser, else JSON.",
            &[(200, "Instance and figures")],
        ),
        Endpoint::Healthz => plain("Says that the process is alive.", &[(200, "It is")]),
        Endpoint::Readyz => plain(
            "Says whether documents are taken. A store that is away makes an instance degraded, \
             not unready: documents are still accepted until the queue is full.",
            &[(200, "Ready or degraded"), (503, "No document would be accepted now")],
        ),
        Endpoint::Metrics => {
            plain("Gives the counters as Prometheus reads them.", &[(200, "The counters")])
        }
        Endpoint::OpenApi => {
            plain("Gives this description, OpenAPI 3.1.", &[(200, "The description")])
        }
        Endpoint::Docs => plain("Shows this description as a page.", &[(200, "The page")]),
        Endpoint::Console => plain(
            "Shows streams, documents, dead letters and summaries to who has a token.",
            &[(200, "The page")],
        ),
        Endpoint::ConsoleScript => plain("The script of the console.", &[(200, "The script")]),
        Endpoint::Style => plain("The style of the pages.", &[(200, "The style")]),
    }
}

/// What a parameter means.
pub(in crate::site) fn parameter_text(name: &str) -> &'static str {
    match name {
        "stream" => "The stream: 1 to 64 of A-Z a-z 0-9 _ -, not beginning with -",
        "id" => "The document's id: the MessageId of its receipt",
        "name" => "The name of the token",
        "last" => {
            "How many of the newest; of tokens: `true` also revokes the last that may \
            administer"
        }
        "week" => "An ISO 8601 week as in 2026-W47, with .json or .html or without",
        "view" => "`full` gives the document and what is known about it as JSON",
        "from" => "Received at this moment or later (RFC 3339)",
        "to" => "Received before this moment (RFC 3339)",
        "limit" => "How many at most; 100 where it is not given",
        "cursor" => "The member `next` of the page before, as it was",
        "where" => {
            "Conditions with commas between them, of id, stream, cause, class, since and \
            before: stream=orders,cause=refused. Empty for all"
        }
        "Idempotency-Key" => "1 to 255 visible ASCII characters or spaces",
        "key" => {
            "The key of the file: segments with / between them, none empty, `.`, `..` or `.inlet`"
        }
        "prefix" => "What the keys begin with, or at least 8 digits that the ids begin with",
        "uploads" => "Begins an upload in parts; it has no value",
        "uploadId" => "The upload that was begun",
        "partNumber" => "The number of the part, from 1 to 10,000; the file has them in this order",
        "Content-Type" => "The type of the file, kept as it is sent; application/octet-stream else",
        "Content-MD5" => "The MD5 of the body, in base64: it is checked",
        "Content-Digest" => {
            "The SHA-256 of the body as in RFC 9530, `sha-256=:BASE64:`: it is checked"
        }
        "x-amz-checksum-sha256" => "The SHA-256 of the body, in base64: it is checked",
        "If-Match" => "The ETag that the file must have",
        "Range" => "The bytes that are wanted, as in `bytes=0-1023`, `bytes=1024-` or `bytes=-512`",
        "If-Range" => "The ETag or the moment of the file whose range is wanted; all of another",
        "If-Modified-Since" => "The Last-Modified of what the client has",
        "Content-Encoding" => "gzip or zstd",
        "If-None-Match" => "The ETag of what the client has",
        _ => "",
    }
}
