"""Where feedback comes from: files, folders, URLs, streams that grow; as raw records."""
