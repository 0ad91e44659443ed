"""Tables, figures and computed sentences, one file a topic, and what they share."""
