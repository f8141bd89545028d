"""The study of the method's claims and the bench of peers; not shipped."""
