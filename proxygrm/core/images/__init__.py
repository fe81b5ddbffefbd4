"""What an image looks like (`settle`), where it is named (`fields`), found (`paths`) and kept (`store`)."""
