"""Whether results can be believed: tables recomputed, runs trained anew, sentences held to tables, all on record."""
