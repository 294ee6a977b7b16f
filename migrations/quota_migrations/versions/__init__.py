"""The revisions, oldest first. Each goes on doing what it did on the day it was written."""
