"""Files in and out: paths confined to one folder, and trees packed and unpacked as tar."""
