"""Images: their pixels (`settle`), the fields that name them (`fields`), their paths (`paths`), the store (`store`)."""
