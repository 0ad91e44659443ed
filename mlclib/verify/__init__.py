"""Whether results can be believed: tables computed again, runs trained again, all of it on record."""
