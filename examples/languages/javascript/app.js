// A component that answers HTTP requests: CSV in, JSON out. The first line of the CSV has the names; ?separator=; is for
// files from countries where numbers have a comma.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
    if (request.method !== "POST") {
        return new Response("send CSV by POST\n", { status: 405 });
    }
    const separator = new URL(request.url).searchParams.get("separator") ?? ",";
    const [names, ...rows] = parse(await request.text(), separator);
    const wrong = rows.findIndex((row) => row.length !== names.length);
    if (names === undefined || wrong >= 0) {
        const reason = names === undefined ? "it is empty" : `row ${wrong + 1} has another number of fields than there are names`;
        return new Response(`this is no CSV: ${reason}\n`, { status: 400 });
    }
    const records = rows.map((row) => Object.fromEntries(row.map((field, i) => [names[i], value(field)])));
    return Response.json(records);
}

/** Rows of fields (RFC 4180): fields may be quoted, and a quoted one may have line ends and doubled quotes in it. */
function parse(text, separator) {
    const rows = [];
    let row = [];
    let field = "";
    let isQuoted = false;
    const endField = () => {
        row.push(field);
        field = "";
    };
    const endRow = () => {
        endField();
        rows.push(row);
        row = [];
    };
    for (let i = 0; i < text.length; i++) {
        const c = text[i];
        if (isQuoted) {
            if (c !== '"') {
                field += c;
            } else if (text[i + 1] === '"') {
                field += c;
                i++;
            } else {
                isQuoted = false;
            }
        } else if (c === '"') {
            isQuoted = true;
        } else if (c === separator) {
            endField();
        } else if (c === "\n") {
            endRow();
        } else if (c !== "\r") {
            field += c;
        }
    }
    if (field !== "" || row.length > 0) {
        endRow();
    }
    return rows;
}

/** A number, if the field is one. */
function value(field) {
    return field.trim() !== "" && Number.isFinite(Number(field)) ? Number(field) : field;
}
