"""The Lightning side: module, schedule, callbacks, checkpoint writing."""
