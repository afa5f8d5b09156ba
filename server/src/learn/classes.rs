//! Classes: create, read, rename, delete.

use super::core::detached;
use super::cursor::{self, List};
use super::state::Change;
use super::{Class, LearnError, Learner, Page, Paged, name, types};
use crate::store::classes::{self, ClassRow};
use serde_json::json;

impl Learner {
    /// Creates an empty class; `ClassExists` if there.
    pub async fn create_class(
        &self,
        collection: &str,
        id: &str,
        name: Option<&str>,
    ) -> Result<Class, LearnError> {
        name::check(id)?;
        let core = self.core();
        let (collection, id) = (collection.to_owned(), id.to_owned());
        let display = name.unwrap_or(&id).to_owned();
        detached(async move {
            let mut write = core.begin(&collection).await?;
            match write.class(&id).await {
                Ok(_) => return Err(LearnError::ClassExists { class: id }),
                Err(LearnError::UnknownClass { .. }) => {}
                Err(error) => return Err(error),
            }
            let row = write.create_class(&id, &display).await?;
            write.commit().await?.class(&row)
        })
        .await
    }

    /// Classes in order of creation.
    pub async fn classes(&self, collection: &str, page: &Page) -> Result<Paged<Class>, LearnError> {
        name::check(collection)?;
        let after = List::Classes.after(page)?;
        let limit = cursor::limit(page) + 1;
        let rows = self.core().read(collection, move |state| state.classes_after(after, limit)).await?;
        List::Classes.paged(rows, page, |(key, _)| *key, |(_, class)| Ok(class))
    }

    /// One class.
    pub async fn class(&self, collection: &str, id: &str) -> Result<Class, LearnError> {
        name::check(collection)?;
        name::check(id)?;
        let slug = id.to_owned();
        self.core()
            .read(collection, move |state| state.class_key(&slug).and_then(|key| state.class(key)))
            .await?
            .ok_or_else(|| LearnError::UnknownClass { class: id.to_owned() })
    }

    /// Changes id (slug) and/or display name; heads keep answering, under the new name.
    ///
    /// A display name that was only the slug follows the slug. `expected` are the tags ([`Class::tag`]) the class may have;
    /// with another it is `ClassChanged`.
    pub async fn rename_class(
        &self,
        collection: &str,
        id: &str,
        new_id: Option<&str>,
        new_name: Option<&str>,
        expected: Option<Vec<String>>,
    ) -> Result<Class, LearnError> {
        let new_id = new_id.unwrap_or(id).to_owned();
        name::check(&new_id)?;
        let core = self.core();
        let (collection, id, new_name) = (collection.to_owned(), id.to_owned(), new_name.map(str::to_owned));
        detached(async move {
            let mut write = core.begin_class(&collection, &id).await?;
            let row = write.class(&id).await?;
            unchanged(&row, expected.as_deref())?;
            if new_id != id
                && classes::find(&mut write.transaction, write.collection, &new_id).await?.is_some()
            {
                return Err(LearnError::ClassExists { class: new_id });
            }
            let kept = if row.name == row.slug { &new_id } else { &row.name };
            let display = new_name.as_ref().unwrap_or(kept);
            let renamed = classes::update(&mut write.transaction, row.key, &new_id, display).await?;
            write.record("class.renamed", &json!({ "class": id, "to": new_id, "name": display })).await?;
            write.change(Change::Class(renamed.clone()));
            write.commit().await?.class(&renamed)
        })
        .await
    }

    /// Deletes a class and its examples (tombstones). Its slug is free for a fresh class. `expected` as for
    /// [`Learner::rename_class`].
    pub async fn delete_class(
        &self,
        collection: &str,
        id: &str,
        expected: Option<Vec<String>>,
    ) -> Result<(), LearnError> {
        let core = self.core();
        let (collection, id) = (collection.to_owned(), id.to_owned());
        detached(async move {
            let mut write = core.begin_class(&collection, &id).await?;
            let row = write.class(&id).await?;
            unchanged(&row, expected.as_deref())?;
            classes::delete(&mut write.transaction, row.key).await?;
            write.record("class.deleted", &json!({ "class": id })).await?;
            write.change(Change::ClassGone { class: row.key });
            write.commit().await?;
            Ok(())
        })
        .await
    }
}

/// The class is as the caller has seen it.
fn unchanged(row: &ClassRow, expected: Option<&[String]>) -> Result<(), LearnError> {
    let tag = types::tag(&row.created_at, row.revision);
    if expected.is_some_and(|tags| !tags.contains(&tag)) {
        return Err(LearnError::ClassChanged { class: row.slug.clone() });
    }
    Ok(())
}
